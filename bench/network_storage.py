def measure_finetuning(*a):
    pass


def measure_lossless(*a):
    pass


def measure_vgg(*a):
    pass
