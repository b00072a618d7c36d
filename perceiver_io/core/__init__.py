"""What every folder shares: the clip, errors, small files, the Kinetics class names."""
