"""The displayed size of a video."""

import pytest

from broker.domain.picture import MAX_SIDE, displayed_size
from broker.lifecycle.probe import _video


@pytest.mark.parametrize(
    ("pixel_shape", "rotation", "size"),
    [
        ("1:1", 0, (320, 240)),
        ("1:1", 90, (240, 320)),
        ("1:1", -90, (240, 320)),
        ("1:1", 270, (240, 320)),
        ("1:1", -270, (240, 320)),
        ("1:1", 180, (320, 240)),
        ("1:1", -179.99, (320, 240)),
        ("1:1", -89.9999, (240, 320)),
        ("1:1", 45, (320, 240)),
        ("4:3", 0, (427, 240)),
        ("4:3", -90, (240, 427)),
        ("3:4", 0, (320, 320)),
        ("0:1", 0, (320, 240)),
        ("1:0", 0, (320, 240)),
        ("N/A", 90, (240, 320)),
        ("", 0, (320, 240)),
    ],
)
def test_a_video_is_displayed_after_its_pixels_and_its_rotation(
    pixel_shape: str, rotation: float, size: tuple[int, int]
) -> None:
    assert displayed_size(320, 240, pixel_shape=pixel_shape, rotation=rotation) == size


def test_a_side_that_no_row_can_hold_is_unknown() -> None:
    assert displayed_size(1, 1, pixel_shape=f"{MAX_SIDE}:1", rotation=90) == (1, MAX_SIDE)
    assert displayed_size(1, 1, pixel_shape=f"{MAX_SIDE + 1}:1", rotation=0) is None
    assert displayed_size(1, 1, pixel_shape=f"1:{MAX_SIDE + 1}", rotation=0) is None


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        ({"tags": {"rotate": "90"}}, (240, 320)),
        ({"tags": {"rotate": "270"}}, (240, 320)),
        ({"tags": {"rotate": "odd"}}, (320, 240)),
        ({"tags": {"rotate": "90"}, "side_data_list": [{"rotation": 0}]}, (320, 240)),
        ({"side_data_list": [{}, {"rotation": -90}]}, (240, 320)),
        ({"height": None}, (None, None)),
        ({"width": 0}, (None, None)),
    ],
)
def test_ffprobes_answers_of_all_releases_are_read(stream: dict[str, object], size: tuple[int, int]) -> None:
    known = {"codec_type": "video", "codec_name": "h264", "width": 320, "height": 240}
    video = _video({"streams": [known | stream]})
    assert video is not None
    assert (video.width, video.height) == size
