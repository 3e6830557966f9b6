"""IQ1_M: as IQ1_S, with a scale for 16 weights and a shift for 8."""


def quantize_iq1_m(rows, importance=None):
    raise NotImplementedError


def dequantize_iq1_m(blocks):
    raise NotImplementedError
