"""The formats of annotation files: labelme, COCO and YOLO, each drawn as a mask."""
