"""Services that cl-ml-serve is compared with."""
