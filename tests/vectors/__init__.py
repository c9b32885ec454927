"""Vaults of every format there was: they must open for ever."""
