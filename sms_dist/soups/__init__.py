"""Soups: coefficients over candidates, mixing, and how far the candidates are apart."""
