"""Find images: in folders, imagefolders, tar files and tables."""
