"""Block formats in numpy: the bytes of each quantization type, drawn above its code."""
