"""Requests for single capabilities and their mixture."""

from benchmarks.workloads import capabilities


def test_every_capability_has_a_workload() -> None:
    """In the order of their names; each is one request to its route."""
    made = capabilities.workloads(b"small", b"large")
    assert list(capabilities.NAMES) == [workload.name for workload in made]
    routes = {workload.name: workload.posts[0].path for workload in made[:-1]}
    assert all(path.startswith(f"/v1/{name}") for name, path in routes.items())


def test_mixed_traffic_is_spread() -> None:
    """Every kind has its share, and no kind comes in one piece."""
    mixed = capabilities.workloads(b"small", b"large")[-1].posts
    paths = [post.path.partition("?")[0] for post in mixed]
    assert (8, 4) == (paths.count("/v1/face_embedding"), paths.count("/v1/media_thumbnail"))
    assert 2 == sum(post.body == b"large" for post in mixed)
    assert paths[:8] != ["/v1/face_embedding"] * 8


def test_a_photo_with_words_is_a_form() -> None:
    """Both parts are in the body, and its boundary in the content type."""
    made = {workload.name: workload for workload in capabilities.workloads(b"pixels", b"")}
    post = made["clip_similarity"].posts[0]
    assert b"pixels" in post.body
    assert b"a man in a suit" in post.body
    assert post.content_type.startswith("multipart/form-data; boundary=")
