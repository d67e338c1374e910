"""Any number of images through an adapted detector: listed, worked on and written shard by shard, here or on a Ray cluster."""
