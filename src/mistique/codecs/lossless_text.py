"""Text, exactly: UTF-8, each text once where few are distinct."""

from __future__ import annotations

import struct

import numpy as np

from mistique.codecs import zstd
from mistique.codecs.payload import PayloadReader, damaged

_HEADER = "<IBQ"  # texts that are written out, bytes of a number of one, bytes of all texts
# A text may hold half of a surrogate pair, which plain UTF-8 refuses.
_SURROGATES = "surrogatepass"


def encode_text(values: np.ndarray) -> bytes:
    """Cells (n_columns, n_rows) of Python texts."""
    texts = values.reshape(-1).tolist()
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    is_dictionary = 2 * len(numbers) <= len(texts)
    written = [text.encode("utf-8", _SURROGATES) for text in (numbers if is_dictionary else texts)]
    width = next(n for n in (1, 2, 4) if len(numbers) <= 256**n) if is_dictionary else 0
    codes = np.array([numbers[text] for text in texts], f"<u{width}").tobytes() if width else b""
    lengths = np.array([len(text) for text in written], "<u4").tobytes()
    body = zstd.compress(codes + lengths + b"".join(written)) if texts else b""
    return struct.pack(_HEADER, len(written), width, sum(map(len, written))) + body


def decode_text(reader: PayloadReader, shape: tuple[int, int]) -> np.ndarray:
    """What `encode_text` was given."""
    n_written, width, n_bytes = reader.unpack(_HEADER)
    n_cells = shape[0] * shape[1]
    frame = reader.rest()
    # The one size that the shape does not bound. A zstd frame holds at most 2**17 bytes in its smallest block of four.
    if width not in (0, 1, 2, 4) or n_written > n_cells or n_bytes > 2**15 * (frame.size + 1):
        raise damaged(f"{n_cells} texts", (n_written, width, n_bytes))
    values = np.empty(n_cells, object)
    if n_cells:
        content = zstd.decompress(frame, width * n_cells + 4 * n_written + n_bytes)
        lengths = np.frombuffer(content[width * n_cells :][: 4 * n_written].tobytes(), "<u4")
        codes = np.frombuffer(content[: width * n_cells].tobytes(), f"<u{width}") if width else np.arange(n_written)
        if int(lengths.sum(dtype=np.uint64)) != n_bytes or codes.size != n_cells or codes.max() >= n_written:
            raise damaged(f"{n_cells} texts of {n_bytes} bytes", (codes.size, int(lengths.sum(dtype=np.uint64))))
        ends = np.cumsum(lengths, dtype=np.int64).tolist()
        texts = content[width * n_cells + 4 * n_written :].tobytes()
        try:
            written = [texts[a:b].decode("utf-8", _SURROGATES) for a, b in zip([0, *ends], ends, strict=False)]
        except UnicodeDecodeError as error:
            raise damaged("UTF-8", error) from error
        values[:] = [written[code] for code in codes.tolist()]
    return values.reshape(shape)
