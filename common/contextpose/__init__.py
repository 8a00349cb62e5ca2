"""ContextPose: images of one person to 17 joints in world millimetres, through a volume (Ma et al., CVPR 2021)."""
