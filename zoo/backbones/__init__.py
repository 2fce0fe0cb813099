"""Backbones: from images (B, 3, H, W) to features, built by timm and torchvision under their native names."""
