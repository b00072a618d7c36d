"""The report opened from disk in headless Chromium."""

import pathlib
import shutil

import pytest
from helpers.report_files import make_report

CHROMIUM = shutil.which('chromium')
STATE = """[...document.querySelector('.clip').querySelectorAll('[data-media]')]
    .map(one => [one.currentTime, one.paused, one.muted])"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason='there is no chromium on the path')
@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_the_report_plays_and_is_accessible(tmp_path, width, scheme):
    axe = pathlib.Path(pytest.importorskip('axe_core_python').__file__).parent
    api = pytest.importorskip('playwright.sync_api')
    folder = make_report(tmp_path / 'report')
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme)
        faults: list[str] = []
        addresses: list[str] = []
        page.on('console', lambda message: faults.append(message.text))
        page.on('pageerror', lambda error: faults.append(str(error)))
        page.on('requestfailed', lambda request: faults.append(request.url))
        page.on('request', lambda request: addresses.append(request.url))
        page.goto((folder / 'index.html').as_uri())
        page.wait_for_function("document.querySelector('video').readyState > 0")
        assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')

        page.locator('.clip button').first.click()
        page.wait_for_function("document.querySelector('video').currentTime > 0.3")
        times, paused, muted = zip(*page.evaluate(STATE))
        assert not any(paused) and muted == (False, True, True)
        assert max(times) - min(times) < 0.2  # seconds; a loaded machine shows frames late
        page.locator('.clip input[value=reconstruction]').first.check()
        page.locator('.clip input[type=range]').first.focus()
        page.keyboard.press('ArrowRight')
        times, paused, muted = zip(*page.evaluate(STATE))
        assert all(paused) and muted == (True, False, True) and len(set(times)) == 1

        page.evaluate(next(axe.rglob('axe.min.js')).read_text())
        found = page.evaluate('axe.run()')['violations']
        assert not [(each['id'], each['nodes'][0]['html']) for each in found]
        browser.close()
    assert not faults
    assert all(address.startswith(('file:', 'data:')) for address in addresses)
