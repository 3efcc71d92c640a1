"""Mathematics that several losses share."""
