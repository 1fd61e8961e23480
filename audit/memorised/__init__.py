"""Whether a network has memorised the images that it is judged on instead of learning what they show."""
