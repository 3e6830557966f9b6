"""A mergekit-moe recipe as a source: a mixture of experts read out of the models it is made of."""
