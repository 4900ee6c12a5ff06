from __future__ import annotations

import pytest

from stepwell_tracker.files import attachment, media_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "image/png"),
        ("a.PNG", "image/png"),
        ("a.svg", "image/svg+xml"),
        ("a.html", "text/html"),
        ("a.json", "application/json"),
        ("a.txt", "text/plain"),
        ("a.yaml", "text/plain"),
        ("MLmodel", "text/plain"),
        ("a.tar.gz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("weights.pt", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("http://evil.example/x.html", "text/html"),
    ],
)
def test_a_media_type_depends_on_the_machine(name, expected):
    assert media_type(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain name-1.txt", 'attachment; filename="plain name-1.txt"'),
        ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
        ('a"b;c.txt', "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%3Bc.txt"),
        ("日.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%E6%97%A5.txt"),
    ],
)
def test_no_file_name_breaks_out_of_its_header(name, expected):
    assert attachment(name) == expected
    assert attachment("x\r\nSet-Cookie: a=b").isprintable()
