"""The displayed size of a video: its coded size after the shape of its pixels and its rotation.

Source: HTML Standard, "The video element": natural width and natural height.
"""

MAX_SIDE = 2**31 - 1
"""The longest side in pixels, which is also the greatest number of an INTEGER in SQL."""


def displayed_size(width: int, height: int, *, pixel_shape: str, rotation: float) -> tuple[int, int] | None:
    """Return the width and height at which a player shows a video, or None if a side is over MAX_SIDE.

    `pixel_shape` is the width of a pixel to its height (ffprobe's `sample_aspect_ratio`); one that is unknown counts as
    square. One dimension grows and the other stays, as the standard requires. `rotation` is in degrees.
    """
    across, _, down = pixel_shape.partition(":")
    if across.isdecimal() and down.isdecimal() and int(across) and int(down):
        if int(across) > int(down):
            width = round(width * int(across) / int(down))
        else:
            height = round(height * int(down) / int(across))
    if max(width, height) > MAX_SIDE:
        return None
    return (height, width) if round(rotation) % 180 == 90 else (width, height)
