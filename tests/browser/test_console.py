"""The demo console, as a user operates it: choose, watch, play, seek, delete."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import APIResponse, Browser, BrowserContext, Locator, Page, Response, Route, expect

from broker.dev.s3 import Fault
from tests.browser.waiting import until
from tests.support.npm import packages
from tests.support.stack import Stack, running_stack, token

VIDEO = "document.querySelector('video')"
AXE = "async () => (await axe.run(document, { resultTypes: ['violations'] })).violations"


@pytest.fixture(scope="session")
def console_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a stack whose console plays through links that expire after 3 seconds."""
    with running_stack(tmp_path_factory.mktemp("console"), link_seconds=3) as stack:
        yield stack


@pytest.fixture
def console(page: Page, stack: Stack) -> Page:
    """Open the console."""
    page.goto(stack.broker)
    expect(page.locator("#health")).to_have_attribute("data-health", "healthy")
    until(page, "document.querySelector('#library').children.length > 0 || !document.querySelector('#empty').hidden")
    return page


def test_a_chosen_film_is_uploaded_played_and_deleted(console: Page, film: Path) -> None:
    upload(console, film)
    play(console, film)
    until(console, f"{VIDEO}.readyState >= 2")
    assert console.evaluate(f"{VIDEO}.videoWidth") == 640
    expect(console.locator("#player-title")).to_have_text(film.name)

    delete = console.locator("#library").get_by_role("button", name=f"Delete {film.name}").first
    media = console.locator("#library .row").first.get_attribute("id")
    delete.click()
    console.get_by_role("button", name="Keep it").click()
    expect(console.locator(f"#{media}")).to_have_count(1)
    delete.click()
    console.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(console.locator(f"#{media}")).to_have_count(0)
    expect(console.locator("video")).to_be_hidden()
    expect(console.get_by_role("status").last).to_have_text(f"{film.name} was deleted")


def test_a_playing_film_seeks_by_ranges_and_continues_with_the_next_link(
    page: Page, console_stack: Stack, film: Path
) -> None:
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer) if "/media/" in answer.url else None)
    page.goto(console_stack.broker)
    upload(page, film)
    play(page, film)
    until(page, f"{VIDEO}.readyState >= 2 && !{VIDEO}.paused")
    first = page.evaluate(f"{VIDEO}.src")
    page.evaluate(f"{VIDEO}.currentTime = {VIDEO}.duration / 2")
    until(page, f"!{VIDEO}.seeking && {VIDEO}.readyState >= 2")
    assert 206 in {answer.status for answer in answers}

    page.wait_for_timeout(1100)  # links signed within the same second are equal
    page.get_by_role("button", name="New link").click()
    until(page, f"{VIDEO}.src !== {first!r} && {VIDEO}.readyState >= 2")
    now = page.evaluate(f"{VIDEO}.currentTime")
    assert now >= 10
    until(page, f"{VIDEO}.currentTime > {now + 0.3} && !{VIDEO}.paused")
    assert page.evaluate(f"{VIDEO}.error") is None


def test_a_film_continues_after_its_link_has_expired(page: Page, console_stack: Stack, long_film: Path) -> None:
    page.goto(console_stack.broker)
    upload(page, long_film)
    play(page, long_film)
    until(page, f"{VIDEO}.readyState >= 2 && !{VIDEO}.paused")
    first = page.evaluate(f"{VIDEO}.src")
    until(page, f"{VIDEO}.src !== {first!r}")
    page.wait_for_timeout(3000)
    refused = page.request.get(first)
    assert refused.status == 403
    page.evaluate(f"{VIDEO}.currentTime = 100")
    until(page, f"!{VIDEO}.seeking && {VIDEO}.readyState >= 2 && {VIDEO}.currentTime > 100.3")


def test_a_film_plays_on_if_a_new_link_cannot_be_had(console: Page, film: Path) -> None:
    upload(console, film)
    play(console, film)
    until(console, f"{VIDEO}.readyState >= 2 && !{VIDEO}.paused")
    before = console.evaluate(f"{VIDEO}.src")
    console.route("**/*?expires_in=*", lambda route: route.abort())
    console.locator("#new-link").click()
    expect(console.locator("#new-link")).to_have_text("Not replaced")
    now = console.evaluate(f"{VIDEO}.currentTime")
    until(console, f"{VIDEO}.currentTime > {now} && !{VIDEO}.paused")
    expect(console.locator("#video")).to_be_visible()
    assert console.evaluate(f"{VIDEO}.src") == before


def test_the_last_of_two_quick_clicks_decides_what_plays(console: Page, films: list[Path]) -> None:
    held: list[Route] = []

    def answer_the_last_one_first(route: Route) -> None:
        held.append(route)
        if len(held) == 2:
            for each in reversed(held):
                each.fulfill(response=each.fetch())

    console.set_input_files("#files", films[:2])
    expect(console.locator("#queue-count")).to_have_text("2 of 2 uploaded")
    expect(console.locator("#queue .row")).to_have_count(0)  # both are in the list now
    console.route("**/*?expires_in=*", answer_the_last_one_first)
    rows = console.locator("#library .row")
    for position in (0, 1):
        rows.nth(position).get_by_role("button", name="Play").click()
    until(console, f"{VIDEO}.readyState >= 2")
    expect(console.locator("#player-title")).to_have_text(rows.nth(1).locator(".name").inner_text())
    media_id = str(rows.nth(1).get_attribute("id")).removeprefix("media-")
    assert media_id in console.evaluate(f"{VIDEO}.src")
    expect(console.locator("#nothing")).to_be_hidden()


def test_a_link_can_be_copied_and_a_film_downloaded_under_its_name(
    console: Page, context: BrowserContext, film: Path
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    upload(console, film)
    play(console, film)
    console.locator("#copy-link").click()
    expect(console.locator("#copy-link")).to_have_text("Copied")
    expect(console.get_by_role("status").last).to_have_text("Copied")
    copied = console.evaluate("navigator.clipboard.readText()")
    assert console.request.get(copied, headers={"Range": "bytes=0-99"}).body() == film.read_bytes()[:100]
    with console.expect_download() as download:
        console.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == film.name
    assert download.value.path().read_bytes() == film.read_bytes()


def test_several_files_upload_at_once_each_with_its_state(console: Page, stack: Stack, films: list[Path]) -> None:
    stack.s3.order_fault(Fault("PostObject", code="AccessDenied", status=403))
    console.set_input_files("#files", films)
    expect(console.locator("#queue-count")).to_have_text("2 of 3 uploaded")
    failed = console.locator("#queue .row")
    expect(failed).to_have_count(1)
    expect(failed).to_have_attribute("data-state", "failed")
    expect(failed).to_contain_text("S3 refused the upload (AccessDenied")
    failed.get_by_role("button", name="Retry").click()
    expect(console.locator("#queue-count")).to_have_text("3 of 3 uploaded")
    expect(console.locator("#queue .row")).to_have_count(0)


def test_files_chosen_together_are_issued_by_one_request_and_a_refused_one_fails_alone(
    console: Page, stack: Stack, films: list[Path], tmp_path: Path
) -> None:
    posts: list[str] = []
    console.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    (tmp_path / "notes.txt").write_text("notes")
    console.set_input_files("#files", [films[0], tmp_path / "notes.txt", films[1]])
    expect(console.locator("#queue-count")).to_have_text("2 of 3 uploaded")
    failed = console.locator("#queue .row")
    expect(failed).to_have_count(1)  # the others are in the list below now
    expect(failed).to_contain_text("Files of this type are not accepted.")
    asked = [url.removeprefix(stack.prefix) for url in posts if url.startswith(stack.prefix)]
    assert asked[0] == "/uploads"
    assert sorted(path.rpartition("/")[2] for path in asked[1:]) == ["complete", "complete"]


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_opening_and_closing_a_video_does_not_move_the_lists(console: Page, film: Path, width: int) -> None:
    console.set_viewport_size({"width": width, "height": 900})
    upload(console, film)
    before = console.locator("#library").bounding_box()
    play(console, film)
    until(console, f"{VIDEO}.readyState >= 2 && !document.querySelector('#about').hidden")
    assert console.locator("#library").bounding_box() == before
    console.get_by_role("button", name="Close").click()
    expect(console.locator("video")).to_be_hidden()
    assert console.locator("#library").bounding_box() == before
    assert console.evaluate("document.activeElement.ariaLabel") == f"Play {film.name}"


def test_a_file_that_the_browser_cannot_play_shows_the_reason_in_place_of_the_video(
    console: Page, tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(bytes(5000))
    upload(console, tmp_path / "broken.mp4")
    play(console, tmp_path / "broken.mp4")
    expect(console.locator("#nothing")).to_have_text("This browser cannot play the video; it may not know its codec.")
    console.wait_for_timeout(1200)  # the line on the link's expiry is refreshed every second
    expect(console.locator("#nothing")).to_be_visible()
    expect(console.locator("#player-facts")).to_have_text("The file can still be downloaded.")
    expect(console.locator("video")).to_be_hidden()


def test_a_broker_that_does_not_answer_turns_the_health_red_and_says_so(console: Page, stack: Stack) -> None:
    console.route("**/api/**", lambda route: route.abort())
    host = stack.broker.removeprefix("http://")
    expect(console.locator("#health")).to_have_attribute("data-health", "unavailable")
    expect(console.locator("#health-text")).to_have_text("The broker does not answer")
    trouble = console.locator("#library-trouble")
    expect(trouble).to_have_text(f"The broker does not answer at {host}. Check that it is running.")
    console.unroute("**/api/**")
    expect(console.locator("#health")).to_have_attribute("data-health", "healthy")
    expect(trouble).to_be_hidden()


def test_an_uploaded_file_appears_once_with_its_steps_and_its_time(console: Page, film: Path) -> None:
    listed = console.locator("#library .row").count()
    upload(console, film)
    expect(console.locator("#queue .row")).to_have_count(0)
    expect(console.locator("#library .row")).to_have_count(min(listed + 1, 20))
    row = console.locator("#library .row").first
    row.locator("summary").click()
    expect(row.locator(".trace li").last).to_have_text(re.compile(r"ready: [0-9.]+ [kM]B in [0-9]\.[0-9] s$"))


def test_an_upload_is_shown_once_while_the_answer_to_its_completion_is_on_its_way(console: Page, film: Path) -> None:
    held: list[tuple[Route, APIResponse]] = []
    console.route("**/complete", lambda route: held.append((route, route.fetch())))
    listed = console.locator("#library .row").evaluate_all("rows => rows.map(({ id }) => id)")
    with console.expect_event("requestfinished", lambda request: "?limit=" in request.url and bool(held)):
        console.set_input_files("#files", film)
    console.wait_for_timeout(300)  # the list that was read knows the media as ready
    assert console.locator("#library .row").evaluate_all("rows => rows.map(({ id }) => id)") == listed
    for route, answer in held:
        route.fulfill(response=answer)
    expect(console.locator("#queue .row")).to_have_count(0)
    row = console.locator("#library .row").first
    row.locator("summary").click()
    expect(row.locator(".trace li").last).to_contain_text("ready: ")


@pytest.mark.parametrize("name", ["", "   "])
def test_a_blank_name_is_shown_as_the_end_of_the_id(console: Page, stack: Stack, name: str) -> None:
    media_id = promised(console, stack, name)
    console.reload()
    row = console.locator(f"#media-{media_id}")
    expect(row.locator(".name")).to_have_text(f"{media_id[-8:]} (video/mp4)")
    expect(row.get_by_role("button")).to_have_accessible_name(f"Delete {media_id[-8:]} (video/mp4)")


def test_a_file_with_a_blank_name_is_shown_as_unnamed(console: Page) -> None:
    console.set_input_files("#files", {"name": "   ", "mimeType": "text/plain", "buffer": b"not a film"})
    expect(console.locator("#queue .name")).to_have_text("Unnamed")


def test_a_right_to_left_name_does_not_reorder_the_words_around_it(console: Page, stack: Stack) -> None:
    media_id = promised(console, stack, "\u202efilm.mp4")
    console.reload()
    console.locator(f"#media-{media_id}").get_by_role("button", name="Delete").click()
    title = console.locator("#confirm-title")
    expect(title).to_be_visible()
    mark_is_last = title.evaluate("""(title) => {
        const all = new Range(), mark = new Range();
        all.selectNodeContents(title);
        mark.setStart(title.lastChild, title.lastChild.length - 1);
        mark.setEnd(title.lastChild, title.lastChild.length);
        return all.getBoundingClientRect().right - mark.getBoundingClientRect().right < 1;
    }""")
    assert mark_is_last


def test_a_permanent_refusal_states_its_reason_and_offers_no_retry(console: Page, tmp_path: Path) -> None:
    refused = {"notes.txt": "Files of this type are not accepted.", "large.mp4": "The file is larger than 100 MB."}
    for name in refused:
        (tmp_path / name).touch()
    with (tmp_path / "large.mp4").open("wb") as large:
        large.truncate(100_000_001)
    (tmp_path / "notes.txt").write_text("notes")
    console.set_input_files("#files", [tmp_path / name for name in refused])
    rows = console.locator("#queue .row")
    for position, (name, sentence) in enumerate(refused.items()):
        expect(rows.nth(position)).to_contain_text(name)
        expect(rows.nth(position).locator(".facts")).to_contain_text(sentence)
        expect(rows.nth(position).get_by_role("button")).to_have_text(["Dismiss"])
    rows.first.locator("summary").click()
    expect(rows.first.locator(".trace")).to_contain_text("'text/plain' is not allowed; allowed are video/mp4")


def test_a_film_with_the_browsers_name_for_its_type_is_accepted(console: Page, tmp_path: Path) -> None:
    (tmp_path / "film.mkv").write_bytes(b"a Matroska file")
    upload(console, tmp_path / "film.mkv")


def test_the_player_stays_in_view_beside_the_list_when_the_page_is_scrolled(
    browser: Browser, stack: Stack, films: list[Path]
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 700})
    page = context.new_page()
    page.goto(stack.broker)
    page.set_input_files("#files", [*films, *films])
    expect(page.locator("#queue-count")).to_have_text("6 of 6 uploaded")
    page.locator("#library").get_by_role("button", name="Play part").first.click()
    until(page, f"{VIDEO}.readyState >= 2")
    page.evaluate("scrollTo(0, document.querySelector('#library').offsetTop)")
    player, library = page.locator(".stay").bounding_box(), page.locator(".library").bounding_box()
    assert player
    assert library
    assert library["x"] + library["width"] <= player["x"]
    assert player["y"] >= 0
    assert player["y"] + player["height"] <= 700
    context.close()


def test_a_running_upload_shows_speed_and_time_left_and_can_be_cancelled(
    console: Page, context: BrowserContext, big_file: Callable[[int], Path]
) -> None:
    _throttle(console, context, bytes_per_second=4_000_000)
    console.set_input_files("#files", big_file(40_000_000))
    row = console.locator("#queue .row")
    expect(row.locator(".facts")).to_contain_text("MB/s")
    expect(row.locator(".facts")).to_contain_text("left")
    assert 0 < float(row.locator("progress").evaluate("bar => bar.value")) < 1
    row.get_by_role("button", name="Cancel").click()
    expect(row.locator(".state")).to_have_text("Cancelled")
    expect(row.get_by_role("button", name="Retry")).to_be_visible()


def test_a_paused_upload_keeps_what_arrived_and_goes_on(
    console: Page, context: BrowserContext, big_file: Callable[[int], Path]
) -> None:
    _throttle(console, context, bytes_per_second=20_000_000)
    console.set_input_files("#files", big_file(60_000_001))
    row = console.locator("#queue .row")
    expect(row.locator(".facts")).to_contain_text(_spaced("(3[0-9]|[4-9][0-9]) % of 60 MB"))
    row.get_by_role("button", name="Pause").click()
    expect(row.locator(".facts")).to_have_text(_spaced("^Paused · (27|55|83) % of 60 MB$"))  # whole parts
    assert console.locator("#library .row", has_text="60000001.mp4").count() == 0
    row.get_by_role("button", name="Resume").click()
    expect(console.locator("#library .row").first).to_contain_text("60000001.mp4")
    row = console.locator("#library .row").first
    expect(row).to_have_attribute("data-state", "ready")
    row.locator("summary").click()
    expect(row.locator(".trace")).to_contain_text("paused")


def test_after_a_reload_the_same_file_continues_and_another_one_is_refused(
    console: Page, context: BrowserContext, big_file: Callable[[int], Path], tmp_path: Path
) -> None:
    _throttle(console, context, bytes_per_second=20_000_000)
    film = big_file(60_000_002)
    console.set_input_files("#files", film)
    row = console.locator("#queue .row")
    expect(row.locator(".facts")).to_contain_text(_spaced("(3[0-9]|[4-9][0-9]) % of 60 MB"))
    console.on("dialog", lambda dialog: dialog.accept())
    console.reload()
    expect(row.locator(".facts")).to_have_text(
        _spaced("^Unfinished · (27|55|83) % of 60 MB · choose the file again to continue$")
    )
    other = tmp_path / "60000002.mp4"
    other.write_bytes(b"another film")
    _choose(console, row, other)
    expect(row.locator(".facts")).to_contain_text("that is another file: it has 12 bytes, not 60 MB")
    _choose(console, row, film)
    expect(console.locator("#queue-count")).to_have_text("1 of 1 uploaded")
    expect(console.locator("#library .row").first).to_contain_text("60000002.mp4")
    expect(console.locator("#library .row").first).to_have_attribute("data-state", "ready")


def test_an_unfinished_upload_continues_with_a_dropped_or_chosen_file_or_is_discarded(
    console: Page, context: BrowserContext, big_file: Callable[[int], Path], stack: Stack
) -> None:
    _throttle(console, context, bytes_per_second=20_000_000)
    films = [big_file(60_000_003), big_file(60_000_004)]
    console.set_input_files("#files", films)
    rows = console.locator("#queue .row")
    for position in (0, 1):
        expect(rows.nth(position).locator(".facts")).to_contain_text(_spaced("[1-9][0-9]? % of 60 MB"))
    console.on("dialog", lambda dialog: dialog.accept())
    console.reload()
    expect(rows).to_have_count(2)
    console.set_input_files("#files", films[1])
    expect(console.locator("#queue-count")).to_have_text("1 of 2 uploaded")
    expect(rows).to_have_count(1)
    rows.get_by_role("button", name="Discard 60000003.mp4").click()
    expect(rows).to_have_count(0)
    console.reload()
    expect(rows).to_have_count(0)
    expect(console.locator("#library .row", has_text="60000003.mp4")).to_have_count(0)


def test_an_offline_device_is_said_to_be_offline_and_goes_on(
    console: Page, context: BrowserContext, big_file: Callable[[int], Path]
) -> None:
    _throttle(console, context, bytes_per_second=20_000_000)
    console.set_input_files("#files", big_file(60_000_005))
    row = console.locator("#queue .row")
    expect(row.locator(".facts")).to_contain_text(_spaced("[1-9][0-9]? % of 60 MB"))
    context.set_offline(True)
    expect(row.locator(".facts")).to_contain_text(_spaced("^Offline · .*continues once it is connected$"))
    context.set_offline(False)
    expect(console.locator("#queue-count")).to_have_text("1 of 1 uploaded")


def test_failed_uploads_are_cleared_at_once(console: Page, tmp_path: Path) -> None:
    notes = [tmp_path / name for name in ("a.txt", "b.txt")]
    for path in notes:
        path.write_text("notes")
    console.set_input_files("#files", notes)
    expect(console.locator('#queue .row[data-state="failed"]')).to_have_count(2)
    console.get_by_role("button", name="Clear").click()
    expect(console.locator("#queue .row")).to_have_count(0)
    expect(console.locator("#queue-head")).to_be_hidden()


def test_dropped_files_are_uploaded(console: Page, film: Path) -> None:
    drop(console, film)
    expect(console.locator("#library .row").first).to_contain_text("dropped.mp4")
    expect(console.locator("#library .row .state").first).to_have_text("Ready")


def test_files_chosen_before_the_configuration_has_loaded_are_uploaded(page: Page, stack: Stack, film: Path) -> None:
    def give_then_answer(route: Route) -> None:
        page.set_input_files("#files", film)
        drop(page, film)
        route.continue_()

    page.route("**/demo/config.json", give_then_answer)
    page.goto(stack.broker)
    expect(page.locator("#queue-count")).to_have_text("2 of 2 uploaded")
    names = page.locator('#library .row[data-state="ready"] .name')
    while set(names.all_inner_texts()[:2]) != {film.name, "dropped.mp4"}:
        page.wait_for_timeout(50)


def test_the_library_shows_further_pages_and_filters_by_status(
    page: Page, console_stack: Stack, films: list[Path], stack: Stack
) -> None:
    page.goto(console_stack.broker)
    for batch in range(1, 9):
        page.set_input_files("#files", films)
        expect(page.locator("#queue-count")).to_have_text(f"{3 * batch} of {3 * batch} uploaded")
    page.reload()
    rows = page.locator("#library .row")
    expect(rows).to_have_count(20)
    page.get_by_role("button", name="Show more").click()
    until(page, "document.querySelectorAll('#library .row').length >= 24")
    page.get_by_label("Show").select_option("rejected")
    expect(rows).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()


def test_the_keyboard_alone_can_play_and_delete(console: Page, film: Path) -> None:
    upload(console, film)
    console.keyboard.press("Tab")
    assert console.evaluate("document.activeElement.textContent") == "Skip to the videos"
    console.keyboard.press("Enter")
    console.keyboard.press("Tab")
    console.keyboard.press("Tab")
    assert console.evaluate("document.activeElement.ariaLabel") == f"Play {film.name}"
    console.keyboard.press("Tab")
    console.keyboard.press("Enter")
    assert console.evaluate("document.activeElement.textContent") == "Keep it"
    media = console.locator("#library .row").first.get_attribute("id")
    console.keyboard.press("Tab")
    console.keyboard.press("Enter")
    expect(console.locator(f"#{media}")).to_have_count(0)
    assert console.evaluate("document.activeElement !== document.body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation_and_nothing_overflows(
    browser: Browser, stack: Stack, films: list[Path], scheme: Literal["light", "dark"], width: int
) -> None:
    axe = packages("axe-core@4.14.1") / "node_modules" / "axe-core" / "axe.min.js"
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844}, bypass_csp=True)
    page = context.new_page()
    page.goto(stack.broker)
    assert _violations(page, axe) == []
    stack.s3.order_fault(Fault("PostObject", code="AccessDenied", status=403))
    page.set_input_files("#files", films)
    expect(page.locator("#queue-count")).to_have_text("2 of 3 uploaded")
    page.locator("#library").get_by_role("button", name="Play part").first.click()
    until(page, f"{VIDEO}.readyState >= 2")
    assert _violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#library").get_by_role("button", name="Delete").first.click()
    assert _violations(page, axe) == []
    page.goto(f"{stack.broker}/form")
    assert _violations(page, axe) == []
    page.get_by_label("Name").fill("film.mp4")
    page.get_by_role("button", name="Continue").click()
    assert _violations(page, axe) == []
    context.close()


def promised(page: Page, stack: Stack, name: str) -> str:
    """Issue an upload with this file name, without sending it, and return the media's id."""
    request = {"content_type": "video/mp4", "filename": name}
    issued = page.request.post(f"{stack.prefix}/upload", data=request, headers={"Authorization": f"Bearer {token()}"})
    assert issued.ok, issued.text()
    return str(issued.json()["media_id"])


def upload(page: Page, path: Path) -> None:
    """Choose one file and wait until it is ready."""
    page.set_input_files("#files", path)
    expect(page.locator("#queue-count")).to_have_text(re.compile("^([1-9][0-9]*) of \\1 uploaded$"))
    expect(page.locator("#queue .row")).to_have_count(0)  # it is in the list now
    expect(page.locator("#library .row").first).to_contain_text(path.name)
    expect(page.locator("#library .row").first).to_have_attribute("data-state", "ready")


def play(page: Page, path: Path) -> None:
    """Play the newest media with the name of this file."""
    page.locator("#library").get_by_role("button", name=f"Play {path.name}").first.click()


def drop(page: Page, path: Path) -> None:
    """Drop the first bytes of a file on the page, as `dropped.mp4`."""
    transfer = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.mp4", { type: "video/mp4" }));
            return transfer;
        }""",
        list(path.read_bytes()[:5000]),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def _throttle(page: Page, context: BrowserContext, *, bytes_per_second: int) -> None:
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.emulateNetworkConditions", limits)


def _spaced(pattern: str) -> re.Pattern[str]:
    """Return a pattern whose spaces also match those that break no line."""
    return re.compile(pattern.replace(" ", r"\s"))


def _choose(page: Page, row: Locator, path: Path) -> None:
    """Choose the file of an unfinished upload."""
    with page.expect_file_chooser() as chooser:
        row.get_by_role("button", name="Choose the file").click()
    chooser.value.set_files(path)


def _violations(page: Page, axe: Path) -> list[str]:
    page.add_script_tag(path=axe)
    violations = page.evaluate(AXE)
    return [f"{rule['impact']} {rule['id']}: {rule['nodes'][0]['failureSummary']}" for rule in violations]
