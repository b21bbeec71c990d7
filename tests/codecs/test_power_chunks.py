"""Chunks of the power codec decoded together: what each is by itself, or left alone."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.codecs import ChunksCodec, Power
from mistique.codecs.zstd import compress
from mistique.errors import ChunkCorruptError
from tests.codecs.compliance import column_type

FLOAT32 = column_type("float32")
N_ROWS, GROUP_COLUMNS = 300, 16


def encoded(codec: Power, seed: int = 0, n_units: int = 16) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    """Payloads of the chunks of a block of a layer of 2 x 2 positions, and their shapes; one chunk is of zeros."""
    values = np.random.default_rng(seed).normal(size=(N_ROWS, 4, n_units)).astype(np.float32)
    values[:, :, ::3] = np.maximum(values[:, :, ::3], 0)
    values[:, :, 4:8] = 0
    made = codec.encode_block([values], FLOAT32, group_columns=GROUP_COLUMNS)
    assert made is not None
    found = [(payload, shape) for shape, payload in made]
    return [payload for payload, _ in found], [shape for _, shape in found]


def decoded(
    codec: Power, payloads: list[np.ndarray], shapes: list[tuple[int, int]], *, beyond: int = 0
) -> tuple[np.ndarray, float, np.ndarray]:
    """Which were decoded, the bound, and the values, of chunks one below the other, the last so many columns beyond."""
    sizes = np.array([len(payload) for payload in payloads])
    places = np.stack([np.cumsum(sizes) - sizes, sizes], axis=1)
    heights = np.array([shape[0] for shape in shapes])
    corners = np.stack([np.cumsum(heights) - heights, np.full(len(shapes), 2)], axis=1)
    out = np.full((heights.sum() - beyond, N_ROWS + 3), -7.0, np.float32)
    assert isinstance(codec, ChunksCodec)
    found, error = codec.decode_chunks(
        np.concatenate(payloads), places, np.array(shapes), FLOAT32, out=out, corners=corners
    )
    assert (out[:, :2] == -7).all()
    assert (out[:, N_ROWS + 2 :] == -7).all()
    return found, error, out[:, 2 : N_ROWS + 2]


@pytest.mark.parametrize("bits", [3, 5, 6, 7, 8])
def test_chunks_are_what_they_are_by_themselves(bits: int) -> None:
    codec = Power(bits)
    payloads, shapes = encoded(codec)
    is_decoded, error, values = decoded(codec, payloads, shapes)
    # That of zeros has no tables.
    assert is_decoded.tolist() == [True, False, True, True]
    for i, payload in enumerate(payloads):
        part = values[GROUP_COLUMNS * i : GROUP_COLUMNS * (i + 1)]
        expected = codec.decode(payload, shapes[i], FLOAT32) if is_decoded[i] else np.full(shapes[i], -7, np.float32)
        assert part.tobytes() == expected.tobytes()
    assert error == max(
        codec.max_abs_error(payload, FLOAT32) for payload, done in zip(payloads, is_decoded, strict=True) if done
    )


def test_a_damaged_chunk_is_left_alone_or_what_it_is_by_itself() -> None:
    codec, rng = Power(8), np.random.default_rng(1)
    payloads, shapes = encoded(codec, n_units=4)
    whole, n_refused = payloads[0], 0
    # The head byte by byte, and then here and there.
    for at in [*range(150), *rng.integers(150, len(whole), 150).tolist()]:
        damaged = whole.copy()
        damaged[at] ^= rng.integers(1, 256)
        is_decoded, error, values = decoded(codec, [damaged, whole], [shapes[0]] * 2)
        assert is_decoded[1]
        assert values[GROUP_COLUMNS:].tobytes() == codec.decode(whole, shapes[0], FLOAT32).tobytes()
        if is_decoded[0]:
            assert values[:GROUP_COLUMNS].tobytes() == codec.decode(damaged, shapes[0], FLOAT32).tobytes()
            assert error == max(codec.max_abs_error(payload, FLOAT32) for payload in (damaged, whole))
        else:
            n_refused += 1
            with pytest.raises(ChunkCorruptError):
                codec.decode(damaged, shapes[0], FLOAT32)
    assert n_refused > 150


def test_what_is_cut_off_is_left_alone() -> None:
    codec = Power(8)
    payloads, shapes = encoded(codec, n_units=4)
    for n_bytes in [*range(60), len(payloads[0]) // 2, len(payloads[0]) - 1]:
        is_decoded, _, _ = decoded(codec, [payloads[0][:n_bytes], payloads[0]], [shapes[0]] * 2)
        assert is_decoded.tolist() == [False, True]


def test_frequencies_of_another_number_are_left_alone() -> None:
    codec = Power(8)
    payloads, shapes = encoded(codec, n_units=4)
    content = payloads[0].tobytes()
    start = 3 + 4 * 4 + 1
    lag, n_thresholds, symbols, n_frame = np.frombuffer(content[start : start + 8], "<u2").tolist()
    frame_at = start + 8 + 2 * n_thresholds + 4 * -(-N_ROWS // (8192 // GROUP_COLUMNS))
    other = compress(bytes(2 * (n_thresholds + 1) * (symbols % 4096) - 2))
    numbers = np.array([lag, n_thresholds, symbols, len(other)], "<u2").tobytes()
    body = content[frame_at + n_frame :]
    forged = np.frombuffer(content[:start] + numbers + content[start + 8 : frame_at] + other + body, np.uint8)
    assert decoded(codec, [forged, payloads[0]], [shapes[0]] * 2)[0].tolist() == [False, True]


def test_nothing_is_read_or_written_outside() -> None:
    codec = Power(8)
    payloads, shapes = encoded(codec, n_units=4)
    assert decoded(codec, payloads * 2, shapes * 2, beyond=1)[0].tolist() == [True, False]
    content, out = payloads[0], np.zeros((GROUP_COLUMNS, N_ROWS), np.float32)
    size = len(content)
    places = np.array([[0, size], [0, size + 1], [-1, size], [1, 2**63 - 1], [2**62, 2**62]])
    corners = np.array([[0, 0], [0, 0], [0, 0], [0, 0], [0, 0]])
    found, _ = codec.decode_chunks(content, places, np.array(shapes * 5), FLOAT32, out=out, corners=corners)
    assert found.tolist() == [True, False, False, False, False]
    places = np.array([[0, size]] * 4)
    corners = np.array([[0, 0], [-1, 0], [0, -1], [0, 2**62]])
    found, _ = codec.decode_chunks(content, places, np.array(shapes * 4), FLOAT32, out=out, corners=corners)
    assert found.tolist() == [True, False, False, False]


def test_other_types_are_left_alone() -> None:
    codec = Power(8)
    payloads, shapes = encoded(codec, n_units=4)
    places, corners = np.array([[0, len(payloads[0])]]), np.zeros((1, 2), np.int64)
    for dtype, cell in (("float64", np.float64), ("float16", np.uint16), ("bfloat16", np.uint16)):
        out = np.zeros((GROUP_COLUMNS, N_ROWS), cell)
        found, error = codec.decode_chunks(
            payloads[0], places, np.array(shapes), column_type(dtype), out=out, corners=corners
        )
        assert (found.tolist(), error, out.any()) == ([False], 0.0, False)
