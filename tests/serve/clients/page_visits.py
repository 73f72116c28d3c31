"""page_visits.py KIND FILE: visits to the page of a server, in Debian's chromium, as page_test.cc prepared it.
KIND: use, keyboard, tokens, looks.

FILE: {"url": of a server without tokens, "guarded": {"url", "tokens": {NAME: TOKEN}}, "images": {LABEL: [FILE]},
       "chromium": PROGRAM, "shots": FOLDER for screenshots}"""
import base64
import json
import pathlib
import re
import sys

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import expect, sync_playwright

kind, file = sys.argv[1:]
given = json.loads(pathlib.Path(file).read_text())
HOSTILE = "<img src=x onerror=document.title='taken'>"
expect.set_options(timeout=30_000)  # of a busy machine
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


class Visit:
    """A page in a browser of its own that must ask for nothing elsewhere, and complain about nothing."""

    def __init__(self, browser, url=given["url"], refused=(), **options):
        self.url, self.refused = url, refused
        self.asked, self.said = [], []
        self.context = browser.new_context(**options)
        self.context.add_init_script(path=AXE_FILE_PATH)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url)

    def __enter__(self):
        return self.page, self

    def __exit__(self, failed, *_):
        if failed:
            print(*self.said, self.page.locator("#message").text_content(), sep="\n")
        else:
            own = (self.url, "blob:", "data:")
            assert self.asked and all(address.startswith(own) for address in self.asked), self.asked
            odd = [text for text in self.said if not any(f"status of {status}" in text for status in self.refused)]
            assert not odd, odd
            assert self.page.title() == "recast", self.page.title()
        self.context.close()

    def check_access(self, where):
        found = self.page.evaluate("async () => (await axe.run()).violations.map("
                                   "({id, nodes}) => [id, nodes.map(node => node.html)])")
        assert not found, (where, found)


def drop(page, path):
    """As from a file manager."""
    content = base64.b64encode(pathlib.Path(path).read_bytes()).decode()
    carried = page.evaluate_handle("""([name, content]) => {
        const carried = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
        carried.items.add(new File([bytes], name, {type: 'image/png'}));
        return carried;
    }""", [pathlib.Path(path).name, content])
    page.dispatch_event("#drop", "drop", {"dataTransfer": carried})


def box(page, model):
    return page.get_by_role("checkbox", name=f"Ask {model}", exact=True)


def card(page, model):
    return page.locator(".answer").filter(has=page.get_by_role("heading", name=model, exact=True))


def add(page, model):
    page.get_by_label("A task or a version by its name").fill(model)
    page.get_by_role("button", name="Add", exact=True).click()


def best(page, model):
    return card(page, model).locator(":scope > .bars > li").first


def answered(page, model):
    expect(card(page, model).locator(".state")).to_have_text(re.compile(r"version \d+, [\d.]+ m?s"))
    return best(page, model).locator(".label").text_content()


def names(page):
    return page.locator("#rows th button").all_text_contents()


# ---- with a mouse ----------------------------------------------------------------------------------------------------

def lists_and_searches(page):
    expect(page.locator("#rows tr")).to_have_count(12)
    first = names(page)
    assert first[:3] == ["cars", "colours", "fungi"], first
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#page-number")).to_have_text("Page 2")
    assert not set(first) & set(names(page)), names(page)
    page.get_by_role("button", name="Previous").click()
    expect(page.locator("#page-number")).to_have_text("Page 1")
    assert names(page) == first
    page.get_by_label("Search the tasks by name").fill("SHOP1")
    expect(page.locator("#rows tr")).to_have_count(10)
    assert all(name.startswith("shop1") for name in names(page)), names(page)
    page.get_by_label("Search the tasks by name").fill("nobody")
    expect(page.locator("#empty")).to_have_text("No task has a name like this.")
    page.get_by_label("Search the tasks by name").fill("")
    expect(page.locator("#rows tr")).to_have_count(12)
    row = page.locator("#rows tr").filter(has=page.get_by_role("button", name="colours", exact=True))
    expect(row.locator(".classes")).to_have_text("3")
    expect(row.locator(".accuracy")).to_have_text(re.compile(r"^\d+\.\d %\*$"))
    expect(row.locator(".bytes")).to_have_text(re.compile(r"^[\d.]+ k?B$"))
    expect(row.locator(".below")).to_have_text("version 2")


def answers_side_by_side(page, visit):
    box(page, "colours").check()
    box(page, "fungi").check()
    expect(page.locator("#hint")).to_have_text("Choose an image.")
    label, files = next(iter(given["images"].items()))
    drop(page, files[0])
    for model in ("colours", "fungi"):
        answered(page, model)
    expect(page.locator("#status")).to_have_text(re.compile(r"colours: .+ %\. fungi: .+ %"))
    shares = [float(text.split()[0]) for text in card(page, "colours").locator(".percent").all_text_contents()]
    assert len(shares) == 3 and abs(sum(shares) - 100) < 0.3 and shares == sorted(shares, reverse=True), shares
    expect(card(page, "fungi").locator(".rest summary")).to_have_text("12 more labels")
    add(page, "colour")
    expect(card(page, "colour").locator(".state")).to_contain_text("did you mean 'colours'?")
    card(page, "colour").get_by_role("button", name="Remove colour").click()
    expect(page.locator(".answer")).to_have_count(2)
    add(page, "sharp")
    assert answered(page, "sharp") and HOSTILE in card(page, "sharp").locator(".label").all_text_contents()
    drop(page, file)  # no image, whatever it calls itself
    expect(card(page, "colours").locator(".state")).to_contain_text("only JPEG, PNG and WebP are read")
    page.get_by_role("button", name="Example a.png").click()
    expect(page.get_by_role("button", name="Example a.png")).to_have_attribute("aria-pressed", "true")
    before = answered(page, "colours")
    page.route("**/v2/models/fungi/infer", lambda route: route.fulfill(status=502, json={"message": "from a proxy"}))
    page.get_by_role("button", name="Ask again").click()
    expect(card(page, "fungi").locator(".state")).to_have_text("The server answered with 502")
    page.unroute("**/v2/models/fungi/infer")
    assert answered(page, "colours") == before
    for model in ("fungi", "sharp"):
        card(page, model).get_by_role("button", name=f"Remove {model}").click()


def compares_versions(page):
    page.get_by_role("button", name="cars", exact=True).click()
    details = page.get_by_role("dialog", name="cars")
    expect(details.locator("#labels li")).to_have_text([f"class {i}" for i in range(4)])
    expect(details.locator("#versions tr")).to_have_count(2)
    expect(details.locator("#versions tr").last.locator(".version")).to_contain_text("1 best")
    box(details, "cars:1").check()
    box(details, "cars:2").check()
    details.get_by_role("button", name="Close").click()
    table = page.get_by_role("region", name="Versions of cars compared")
    expect(table.locator("thead th")).to_have_text(
        ["Label", "cars:1 (version 1)", "cars:2 (version 2)", "Difference"])
    expect(table.locator("caption")).to_have_text(re.compile("cars: (all say|the versions differ)"))
    expect(table.locator("tbody tr")).to_have_count(4)  # version 1 has two of the four labels of version 2
    row = table.locator("tbody tr").filter(has=page.get_by_role("rowheader", name="class 0", exact=True))
    one, two, points = (float(text.split()[0].replace("−", "-")) for text in row.locator("td").all_text_contents())
    assert abs(two - one - points) < 0.16, (one, two, points)
    expect(table.locator("tbody tr").filter(has_text="class 3").locator("td").first).to_have_text("–")
    part = card(page, "cars:1").locator(".correct")
    part.locator("summary").click()
    expect(part.get_by_label("It is").locator("option")).to_have_count(6)  # four of version 2, whatever version 1 has
    for model in ("cars:1", "cars:2"):
        card(page, model).get_by_role("button", name=f"Remove {model}").click()
    expect(table).to_have_count(0)


def corrects(page):
    for label, files in given["images"].items():
        for path in files:
            drop(page, path)
            answered(page, "colours")
            name = pathlib.Path(path).name
            expect(page.locator("#preview")).to_have_attribute("alt", f"The image to ask about: {name}")
            part = card(page, "colours").locator(".correct")
            if part.get_attribute("open") is None:
                part.locator("summary").click()
            part.get_by_label("It is").select_option(label=label)
            part.get_by_role("button", name="Save the correction").click()
            expect(part.locator(".saved")).to_have_text(re.compile(
                rf"^Saved as toy/colours/train/{label}/[0-9a-f]{{32}}\.png: \d+ corrections? of this task so far\.$"))
    part.get_by_label("It is").select_option(label="a new label")
    part.get_by_label("New label").fill("../up")
    part.get_by_role("button", name="Save the correction").click()
    expect(part.locator(".saved")).to_contain_text("slash")
    part.get_by_label("New label").fill("brown")
    part.get_by_role("button", name="Save the correction").click()
    expect(part.locator(".saved")).to_contain_text("train/brown/")
    expect(part.locator(".saved")).to_contain_text(f"no longer under {label}")
    part.get_by_label("It is").select_option(label=label)
    part.get_by_role("button", name="Save the correction").click()
    expect(part.locator(".saved")).to_contain_text("no longer under brown")


def use(browser):
    with Visit(browser, refused=(400, 404, 415, 501, 502)) as (page, visit):
        lists_and_searches(page)
        answers_side_by_side(page, visit)
        compares_versions(page)
        corrects(page)


# ---- without one -----------------------------------------------------------------------------------------------------

def tab_to(page, what):
    """Presses Tab until `what` has the focus, which must be seen."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if what.count() and what.evaluate("element => element === document.activeElement"):
            shown = what.evaluate("element => getComputedStyle("
                                  "element.type === 'file' ? element.parentElement : element).outlineStyle")
            assert shown != "none", what
            return
    raise AssertionError(f"Tab does not lead to {what}")


def keyboard(browser):
    with Visit(browser) as (page, _):
        # Choosers are caught from here on: begun at the key press, on a busy machine it may come after the key.
        page.on("filechooser", lambda _: None)
        expect(page.locator("#rows tr")).to_have_count(12)
        press = page.keyboard.press
        tab_to(page, page.get_by_role("link", name="Skip to the tasks"))
        press("Enter")
        tab_to(page, page.get_by_label("Search the tasks by name"))
        page.keyboard.type("colo")
        expect(page.locator("#rows tr")).to_have_count(1)
        tab_to(page, box(page, "colours"))
        press("Space")
        tab_to(page, page.get_by_label("Choose an image"))
        with page.expect_file_chooser() as chooser:
            press("Enter")
        chooser.value.set_files(next(iter(given["images"].values()))[0])
        answered(page, "colours")
        tab_to(page, page.get_by_role("button", name="Example b.png"))
        press("Enter")
        answered(page, "colours")
        tab_to(page, card(page, "colours").locator(".correct summary"))
        press("Enter")
        select = card(page, "colours").get_by_label("It is")
        expect(select.locator("option")).to_have_count(5)
        tab_to(page, select)
        press("g")
        expect(select).to_have_value("=green")
        tab_to(page, card(page, "colours").get_by_role("button", name="Save the correction"))
        press("Space")
        expect(card(page, "colours").locator(".saved")).to_contain_text("train/green/")
        name = page.get_by_role("button", name="colours", exact=True)
        tab_to(page, name)
        press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        tab_to(page, box(page.get_by_role("dialog"), "colours:1"))
        press("Space")
        press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(name).to_be_focused()
        answered(page, "colours:1")
        expect(page.get_by_role("region", name="Versions of colours compared")).to_be_visible()
        remove = page.get_by_role("button", name="Remove colours:1")
        tab_to(page, remove)
        press("Enter")
        expect(remove).to_have_count(0)


# ---- with tokens -----------------------------------------------------------------------------------------------------

def tokens(browser):
    guarded = given["guarded"]
    with Visit(browser, guarded["url"], refused=(401, 403)) as (page, visit):
        message, token = page.get_by_role("alert"), page.locator("#token")

        def give(text):
            if not token.is_visible():
                page.get_by_role("button", name="Token", exact=True).click()
            token.fill(text)
            page.get_by_role("button", name="Use it").click()

        expect(message).to_have_text("This server asks for a token: give one above.")
        expect(token).to_be_focused()
        visit.check_access("asked for a token")
        give("wrong")
        expect(message).to_contain_text("This token is not known")
        give(guarded["tokens"]["infer"])
        expect(page.locator("#empty")).to_contain_text("may not list the tasks")
        expect(page.locator("#about")).to_contain_text("token infer")
        add(page, "cars")
        add(page, "fungi")
        drop(page, next(iter(given["images"].values()))[0])
        answered(page, "cars")
        expect(card(page, "fungi").locator(".state")).to_contain_text(
            "Not allowed: the token is not for this model")
        expect(card(page, "cars").locator(".correct")).to_be_hidden()
        give(guarded["tokens"]["read"])
        expect(message).to_contain_text("answers need the role infer")
        expect(page.locator("#rows tr")).to_have_count(12)
        assert guarded["tokens"]["read"] not in page.content() and token.input_value() == ""
        page.reload()
        expect(page.locator("#rows tr")).to_have_count(12)
        page.get_by_role("button", name="Token", exact=True).click()
        page.get_by_role("button", name="Forget it").click()
        expect(message).to_contain_text("asks for a token")
        expect(page.locator("#rows tr")).to_have_count(0)
        assert page.evaluate("sessionStorage.length + localStorage.length + document.cookie.length") == 0
        assert not any(secret in address for address in visit.asked for secret in guarded["tokens"].values())


# ---- what it looks like ----------------------------------------------------------------------------------------------

def looks(browser):
    shots = pathlib.Path(given["shots"])
    shots.mkdir(parents=True, exist_ok=True)
    wide = {"viewport": {"width": 1280, "height": 900}}
    for name, options in (("light", wide), ("dark", {**wide, "color_scheme": "dark"}), ("phone", PHONE),
                          ("phone-dark", {**PHONE, "color_scheme": "dark"})):
        with Visit(browser, refused=(404,), **options) as (page, visit):
            expect(page.locator("#rows tr")).to_have_count(12)
            if name == "light":
                visit.check_access("at first")
            for model in ("colours", "fungi"):
                box(page, model).check()
            add(page, "cars:1")
            add(page, "cars:2")
            page.get_by_role("button", name="Example a.png").click()
            for model in ("colours", "fungi", "cars:1", "cars:2"):
                answered(page, model)
            add(page, "nobody")
            expect(card(page, "nobody").locator(".state.failed")).to_be_visible()
            part = card(page, "colours").locator(".correct")
            part.locator("summary").click()
            part.get_by_label("It is").select_option(label="a new label")
            page.screenshot(path=shots / f"{name}.png", full_page=True)
            if name != "phone-dark":  # the colours of one and the layout of the other
                visit.check_access(name)
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{name}: {overflow} pixels beyond the edge"
            page.get_by_role("button", name="cars", exact=True).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            page.screenshot(path=shots / f"{name}-details.png")
            if name != "phone-dark":
                visit.check_access(f"{name}, details")


with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(executable_path=given["chromium"], args=["--no-sandbox"])
    globals()[kind](chromium)
    chromium.close()
print("passed")
