"""The data planes beside each other in one run: packet rates, the programs alone, and the maps.

Judge ratios: each is of two rates of the same round, and the median of the rounds counts.
"""
