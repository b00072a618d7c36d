"""How bright a colour is."""

LUMA = (0.299, 0.587, 0.114)  # weights of R, G and B in grey (BT.601)
