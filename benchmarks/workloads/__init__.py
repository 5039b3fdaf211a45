"""What subjects are asked: photos, requests, and whether the answers are right."""
