"""WebDataset shards for zoo: tar files of images and labels, indexed once and read in any order."""
