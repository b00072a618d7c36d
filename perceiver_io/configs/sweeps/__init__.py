"""The sweeps that ship with the package: points around one of the configs."""
