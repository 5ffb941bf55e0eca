"""From a name in a suite to splits of images."""
