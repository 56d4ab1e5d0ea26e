"""Tests of the logo: which files are accepted, how large it is shown, and how it is attached to the mail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.email.logo import MAX_FILE_BYTES, BadLogo, load_logo, read_logo
from notifications.email.render import MailIdentity, compose, render_strictly
from notifications.email.samples import samples
from tests.notifications.logos import gif, jpeg, png

SAMPLES = dict(samples())
IDENTITY = MailIdentity(sender="security@vendor.example", vendor_name="Vendor <&> Sons", logo=read_logo(png()))


def composed(identity: MailIdentity) -> EmailMessage:
    facts = SAMPLES["public-repository"]
    message = compose(
        render_strictly(facts, identity),
        identity,
        recipient="ana@acme.example",
        message_id="<1@vendor.example>",
        date=datetime(2026, 11, 3, tzinfo=UTC),
        incident_ids=facts.incident_ids,
    )
    read = message_from_bytes(message.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


@pytest.mark.parametrize(
    ("content", "subtype"), [(png(160, 48), "png"), (gif(160, 48), "gif"), (jpeg(160, 48), "jpeg")]
)
def test_png_jpeg_and_gif_are_recognised_by_their_first_bytes(content: bytes, subtype: str) -> None:
    logo = read_logo(content)
    assert (logo.subtype, logo.width, logo.height) == (subtype, 160, 48)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *(
            (b"", "is not a PNG, JPEG or GIF"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a PNG, JPEG or GIF"),
        ),
        *(
            (b"RIFF\0\0\0\0WEBP", "is not a PNG, JPEG or GIF"),
            (png()[:20], "cut off"),
            (gif(1, 1)[:8], "cut off"),
        ),
        *((jpeg(9, 9)[:-8], "cut off"), (b"\xff\xd8\xff\xe0\0\x02junk", "damaged JPEG")),
        *((png().replace(b"IHDR", b"IDAT"), "damaged PNG"), (gif(0, 9), "0 x 9 pixels"), (gif(2001, 9), "1 to 2000")),
        (png() + b"\0" * MAX_FILE_BYTES, "larger than 100 kB"),
    ],
)
def test_any_other_file_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadLogo, match=reason) as caught:
        read_logo(content)
    assert len(str(caught.value).splitlines()) == 1


@settings(deadline=None)
@given(st.sampled_from([b"", png()[:8], b"GIF89a", b"\xff\xd8\xff"]), st.binary(max_size=300))
def test_bytes_of_any_kind_are_a_logo_or_refused(begin: bytes, rest: bytes) -> None:
    try:
        logo = read_logo(begin + rest)
    except BadLogo:
        return
    assert min(logo.shown) >= 1
    assert max(logo.width, logo.height) <= 2000


def test_an_endless_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLogo, match="larger than 100 kB"):
        load_logo(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((160, 48), (133, 40)),
        ((30, 20), (30, 20)),
        ((2000, 100), (220, 11)),
        ((2, 2000), (1, 40)),
        ((2000, 1), (220, 1)),
    ],
)
def test_the_logo_keeps_its_proportions_and_has_a_maximum_height(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert read_logo(gif(*size)).shown == shown


def test_the_logo_is_a_related_part_of_the_html() -> None:
    message = composed(IDENTITY)
    assert message.get_content_type() == "multipart/alternative"
    plain, related = message.iter_parts()
    assert (plain.get_content_type(), related.get_content_type()) == ("text/plain", "multipart/related")
    html, picture = related.iter_parts()
    assert picture.get_content_type() == "image/png"
    assert picture.get_content() == png()
    assert picture["Content-ID"] == f"<{IDENTITY.logo.content_id}>"  # type: ignore[union-attr]  # it has a logo
    assert picture.get_content_disposition() == "inline"
    assert f'src="cid:{picture["Content-ID"][1:-1]}"' in html.get_content()
    assert message.defects == []
    assert all(len(line) <= 78 for line in composed(IDENTITY).as_bytes().split(b"\n"))


def test_the_vendors_name_is_shown_with_and_without_the_logo() -> None:
    html = render_strictly(SAMPLES["gist"], IDENTITY).html
    name = "Vendor &lt;&amp;&gt; Sons"
    assert f'alt="{name}"' in html
    assert f">{name}</strong>" in html
    assert "<img" not in render_strictly(SAMPLES["gist"], replace(IDENTITY, logo=None)).html


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_of_mail_shows_the_logo_once_above_the_headline(name: str) -> None:
    html = render_strictly(SAMPLES[name], IDENTITY).html
    assert html.count("<img") == html.count("cid:") == 1
    assert html.index("<img") < html.index("<h1")


def test_a_custom_layout_without_the_logo_does_not_attach_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "body.html").write_text('<html lang="en"><h1>{{ page.headline }}</h1></html>')
    message = composed(replace(IDENTITY, template_dir=tmp_path))
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_another_picture_has_another_content_id() -> None:
    assert read_logo(png(10, 10)).content_id != read_logo(png(10, 11)).content_id
