"""What images there are: folders, imagefolders, tar files, tables."""
