"""Data about persons: addresses, cards, accounts, telephone numbers."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from embedctl.data.checks.kinds import PERSONAL, Match
from embedctl.data.checks.patterns import compiled, compiled_set, spans

SCREEN = (
    r"[A-Za-z0-9_%+-]@[A-Za-z0-9]|[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9a-f]{1,4}:[0-9a-f]{0,4}:[0-9a-f]{0,4}:"
    r"|[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}"
    r"|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4}|[A-Z]{2}[0-9]{2}[ ]?[A-Z0-9]{4}[ ]?[A-Z0-9]{4}"
    r"|[0-9]{3}-[0-9]{2}-[0-9]{4}|\+[0-9(]{1,4}[ ().0-9/-]{5}"
)

_EMAIL = r"[A-Za-z0-9_%+][A-Za-z0-9_.%+-]*@(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,24}\b"
_IPV4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b"
_IPV6 = r"[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){3,7}"
_CARD = r"[2-6][0-9]{3}(?:[ -]?[0-9]{2,6}){2,4}\b"
_IBAN = r"\b[A-Z]{2}[0-9]{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b"
_SSN = r"[0-9]{3}-[0-9]{2}-[0-9]{4}\b"
_PHONE = r"\+[0-9][ ().0-9/-]{6,20}[0-9]\b"
_JOINT = frozenset(".-_%+@")


@dataclass(frozen=True, slots=True)
class Datum:
    """One piece of personal data and its kind, as a report names it."""

    kind: str
    start: int
    end: int


def find(text: str) -> Iterator[Datum]:
    """Every piece of personal data, checked by its checksum where it has one."""
    for number in sorted(_ANY.Match(text.encode()) or ()):
        kind, pattern, holds = _KINDS[number]
        for start, end in spans(pattern, text):
            before, after = text[start - 1 : start], text[end : end + 2]
            apart = not (before.isalnum() or (before and before in _JOINT)) and not (
                after[:1] in "-:." and after[1:].isdigit()
            )
            if apart and holds(text[start:end]):
                yield Datum(kind, start, end)


def examine(text: str) -> Iterator[Match]:
    for datum in find(text):
        yield Match(PERSONAL, datum.start, datum.end, PERSONAL.severity)


def _is_email(value: str) -> bool:
    return value.lower().rsplit(".", 1)[-1] not in ("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js")


def _is_address(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback or address.is_multicast)


def _is_card(value: str) -> bool:
    digits = [int(c) for c in value if c.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    # Among the issuers that begin with 2 are none of the 2000s, with which dates begin (20130710123456).
    if digits[0] == 2 and not [2, 2, 2, 1] <= digits[:4] <= [2, 7, 2, 0]:
        return False
    doubled = [d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _is_iban(value: str) -> bool:
    plain = value.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(value: str) -> bool:
    digits = sum(c.isdigit() for c in value)
    return 8 <= digits <= 15 and len(set(value)) > 4


def _is_social(value: str) -> bool:
    area, group, serial = value.split("-")
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


_KINDS = tuple(
    (kind, compiled(f"(?-i:{pattern})"), holds)
    for kind, pattern, holds in (
        ("e-mail address", _EMAIL, _is_email),
        ("IP address", _IPV4, _is_address),
        ("IP address", _IPV6, _is_address),
        ("card number", _CARD, _is_card),
        ("IBAN", _IBAN, _is_iban),
        ("US social security number", _SSN, _is_social),
        ("telephone number", _PHONE, _is_phone),
    )
)
_ANY = compiled_set([f"(?-i:{pattern})" for pattern in (_EMAIL, _IPV4, _IPV6, _CARD, _IBAN, _SSN, _PHONE)])
