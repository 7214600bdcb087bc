"""Keys, tokens and passwords: the token shapes of detect-secrets and newer ones, and assigned values."""

import importlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from embedctl.data.checks.kinds import Tier
from embedctl.data.checks.patterns import compiled

# The classes of detect-secrets whose rules are a fixed shape; its entropy and keyword rules alarm on ordinary text.
_DETECTORS = (
    ("artifactory", "ArtifactoryDetector"),
    ("aws", "AWSKeyDetector"),
    ("azure_storage_key", "AzureStorageKeyDetector"),
    ("discord", "DiscordBotTokenDetector"),
    ("github_token", "GitHubTokenDetector"),
    ("gitlab_token", "GitLabTokenDetector"),
    ("mailchimp", "MailchimpDetector"),
    ("npm", "NpmDetector"),
    ("openai", "OpenAIDetector"),
    ("pypi_token", "PypiTokenDetector"),
    ("sendgrid", "SendGridDetector"),
    ("slack", "SlackDetector"),
    ("square_oauth", "SquareOAuthDetector"),
    ("stripe", "StripeDetector"),
    ("telegram_token", "TelegramBotTokenDetector"),
    ("twilio", "TwilioKeyDetector"),
)
_TOKEN = (
    r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant|or|svcacct|admin)[-_][A-Za-z0-9_-]{16,200}"
    r"|\bsk-[A-Za-z0-9]{32,64}\b|\bgithub_pat_[A-Za-z0-9_]{22,100}"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,100}|\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_-]{20,200}"
    r"|\bGOCSPX-[0-9A-Za-z_-]{20,40}|\bhf_[A-Za-z]{30,40}\b|\bpcsk_[A-Za-z0-9_]{20,120}"
    r"|\b(?:npm|dop_v1|doo_v1|glpat|gldt|shpat|shpss|shpca|EAACEdEose0cBA|xapp"
    r"|xox[abeoprs])[-_][A-Za-z0-9-]{16,200}|\bxox[abeoprs]-[0-9A-Za-z-]{10,100}|\bSG\.[\w-]{16,32}\.[\w-]{16,64}"
    r"|\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}\b|\bpypi-[A-Za-z0-9_-]{40,200}"
    r"|\beyJ[A-Za-z0-9_-]{8,1000}\.eyJ[A-Za-z0-9_-]{4,1000}\.[A-Za-z0-9_-]{4,1000}|\bAccountKey=[A-Za-z0-9+/=]{60,90}"
    r"|hooks\.slack\.com/services/[A-Za-z0-9/]{20,80}|\bsq0[a-z]{3}-[0-9A-Za-z_-]{22,43}"
    r"|\b[0-9]{8,10}:AA[0-9A-Za-z_-]{33}|\bkey-[0-9a-f]{32}\b|\b[0-9a-f]{32}-us[0-9]{1,2}\b"
    r"|\bAGE-SECRET-KEY-1[A-Z0-9]{50,60}|\b(?:vault|hvs|hvb)\.[A-Za-z0-9_-]{24,120}|\bdapi[0-9a-f]{32}\b"
    r"|\blin_api_[A-Za-z0-9]{40}|\bntn_[A-Za-z0-9]{40,50}|\bsntrys_[A-Za-z0-9_=+/-]{40,200}"
)
_GITLAB = r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-"
_PRIVATE_KEY = r"-----BEGIN (?:[A-Z0-9 ]{0,24})PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-[0-9]"
_URL = r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>?#]{0,64}:[^\s/@\"'<>?#]{3,64}@[\w.-]"
_NAMES = (
    r"(?:pass(?:wor[dt]|wd|phrase|code)?|pwd|kennwort|passwort|mot\s?de\s?passe|contrase\x{f1}a|senha|secret"
    r"|token|api[_\s-]?key|apikey|access[_\s-]?key|auth[_\s-]?key|private[_\s-]?key|account[_\s-]?key"
    r"|encryption[_\s-]?key"
    r"|client[_\s-]?secret|credentials?|bearer|key|db_?pass|signing[_\s-]?key|session[_\s-]?id|secure)"
)
_ASSIGNED = (
    r"(?m)(?:^|[^A-Za-z0-9])((?:[A-Za-z0-9]{1,30}[_.-]){0,6}"
    + _NAMES
    + r"s?(?:[_-][A-Za-z0-9]{1,20}){0,6})[\"'\]]{0,2}[ \t]{0,4}(?::=|=>|={1,3}|:)(?:[ \t]{0,4}"
    r"|[ \t]{0,4}\n[ \t]{2,12}(?:secure:[ \t]|[a-z]\w{1,20}\n[ \t]{2,12})?)(?:!!binary[ \t])?"
    r"(?:[bru@]{0,2}\"([^\"\n]{6,256})\"|[bru@]{0,2}'([^'\n]{6,256})'|([^\s\"'`<>{}(),;]{6,256}))"
)
_QUOTED_HEX = r"[\"'][0-9a-f]{32,128}[\"']"

# An automaton has a state for every length of a run, times those that can have begun within it: so runs are looked for
# behind what seldom stands before them.
SCREEN = (
    r"(?-i:\b(?:[spr]k[-_](?:live|test|proj|ant|or|svcacct|admin)[-_]|sk-[A-Za-z0-9]{8}|github_pat_|gh[pousr]_"
    r"|AIza[0-9A-Za-z_-]|ya29\.|GOCSPX-|hf_[A-Za-z]{8}|pcsk_|npm_|dop_v1|doo_v1|" + _GITLAB + r"|shp[a-z]{2}_"
    r"|EAA[AC]|xapp-|xox[abeoprs]-|SG\.|AKIA|ASIA|ABIA|ACCA|A3T|pypi-A|eyJ[A-Za-z0-9_-]{8}|AccountKey="
    r"|sq0[a-z]{3}-|key-[0-9a-f]{8}|AGE-SECRET|vault\.|hv[sb]\.|dapi[0-9a-f]{8}|lin_api_|ntn_|sntrys_"
    r"|AKC[a-zA-Z0-9]{6}|AP[0-9A-F][a-zA-Z0-9]{8}|AC[0-9a-z]{8}|SK[0-9a-z]{8}|GR1348941)"
    r"|[0-9]:AA|[0-9a-f]-us[0-9]|[A-Za-z0-9_-]\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{16})"
    r"|hooks\.slack\.com/services|PRIVATE KEY|PuTTY-User-Key|://[^\s/@]*:[^\s/@]+@|_authToken"
    r"|(?:pass(?:wor[dt]|wd|phrase|code)?|pwd|kennwort|contrase\x{f1}a|senha|secret|token|key|credentials?"
    r"|secure|session_?id)(?:_[a-z0-9_]+)?[\"'\]]{0,2}[ \t]?(?::=|=>|=|:)\s?[^\s]"
    r"|secret\w*\s?=|=[A-Za-z0-9+/]{32}|[\"'][0-9a-f]{32}|(?:bearer"
    r"|basic)\s[A-Za-z0-9._~+/-]{20}"
)

_TOKENS = compiled(f"(?-i:{_TOKEN})")
_PRIVATE_KEYS = compiled(f"{_PRIVATE_KEY}")
_URLS = compiled(_URL)
_ASSIGNMENTS = compiled(_ASSIGNED)
_QUOTED = compiled(_QUOTED_HEX)
_HEADERS = compiled(r"\b(?:bearer|basic)\s+([A-Za-z0-9._~+/-]{20,500}={0,2})")
_SETTING = compiled(r"(?m)^[A-Za-z0-9_]{2,40}=([A-Za-z0-9+/]{32,128}={0,2})$")
# Every alternative begins with a letter of its own, so that `re` passes quickly over what can begin none.
_HINT = re.compile(
    r"AKC|AP[0-9A-F]|AccountKey|_authToken|aws|AWS|sk_|rk_|M[\w-]{23}\.|N[\w-]{23}\.|O[\w-]{23}\."
    rf"|{_GITLAB}|GR1348941|-us[0-9]|SK[0-9a-z]{{8}}|AC[0-9a-z]{{8}}|sq0|EAAA"
)
# Holds wherever _HINT does.
_HINTS = compiled(
    r"(?-i:AKC|AP[0-9A-F]|AccountKey|_authToken|aws|AWS|sk_|rk_|[MNO]\S{23}\."
    rf"|{_GITLAB}|GR1348941|-us[0-9]|SK[0-9a-z]{{8}}|AC[0-9a-z]{{8}}|sq0|EAAA)"
)
_WINDOW = 512
_LONGEST_KEY = 9_000

_PLACEHOLDER = re.compile(
    r"(?i)example|sample|placeholder|changeme|change[_-]me|your|dummy|redacted|insert|replace|enter|todo|fixme"
    r"|xxxx|\*{3}|\.{3}|^<|>$|\$\{|\{\{|%\(|%s|^\$|^@|^process\.|^os\.|env[.\[(]|^config"
    r"|^settings|^self\.|^this\.|^req|^user|^none$|^null$|^true$|^false$|^undefined|^string$|^str$|^text$"
    r"|^varchar|^password\w{0,2}$|^secret$|^token$|^https?:|^/|^\.|\(\)?$|^\w+\(|\[\w*\]$|^my_?(?:pass|secret"
    r"|token|key|api)"
)


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret stands; ``severity`` says how sure that is."""

    start: int
    end: int
    severity: Tier


def find(text: str) -> Iterator[Secret]:
    """Every secret, in no order; two may overlap."""
    for found in _PRIVATE_KEYS.finditer(text):
        foot = text.find("-----END ", found.end(), found.end() + _LONGEST_KEY)
        end = text.find("-----", foot + 9, foot + 64) if foot >= 0 else -1
        yield Secret(found.start(), end + 5 if end >= 0 else found.end(), "critical")
    for found in _TOKENS.finditer(text):
        if _is_random(found.group()) and not _PLACEHOLDER.search(found.group()):
            yield Secret(found.start(), found.end(), "high")
    for found in _URLS.finditer(text):
        start = found.group().index(":", found.group().index("://") + 3) + found.start() + 1
        value = text[start : found.end() - 2]
        if not _PLACEHOLDER.search(value) and value.lower() not in ("pass", "pwd", "password", "passwd"):
            yield Secret(start, found.end() - 2, "high")
    yield from _of_detectors(text)
    yield from _assigned(text)


def _assigned(text: str) -> Iterator[Secret]:
    for found in _ASSIGNMENTS.finditer(text):
        group = next(number for number in (2, 3, 4) if found.start(number) >= 0)
        value = found.group(group).rstrip(".,;:")
        in_link = found.group()[:1] in ("?", "&") and not any(
            part in found.group(1).lower() for part in ("pass", "secret")
        )
        if not in_link and _is_value(found.group(1).lower(), value, quoted=group < 4):
            yield Secret(found.start(group), found.start(group) + len(value), "medium")
    for pattern in (_HEADERS, _SETTING):
        for found in pattern.finditer(text):
            if _is_random(found.group(1)) and not _PLACEHOLDER.search(found.group(1)):
                yield Secret(found.start(1), found.end(1), "medium")
    for found in _QUOTED.finditer(text):
        if len(set(found.group())) > 8:
            yield Secret(found.start() + 1, found.end() - 1, "low")


def _is_value(name: str, value: str, *, quoted: bool) -> bool:
    """Whether what is assigned to such a name can be a secret, and not a word, a path or a placeholder."""
    if _PLACEHOLDER.search(value) or " " in value.strip():
        return False
    if name.endswith("key") and not any(
        part in name for part in ("api", "access", "auth", "private", "secret", "account")
    ):
        return len(value) >= 20 and _is_random(value)
    digits = sum(c.isdigit() for c in value)
    letters = sum(c.isalpha() for c in value)
    if len(value) >= 20:
        return (
            _is_random(value)
            or (quoted and digits > 0)
            or (len(value) > 23 and value.isalpha() and entropy(value) > 3.5)
        )
    if digits and letters:
        return quoted or entropy(value) > 2.8
    others = len(value) - digits - letters
    return (quoted and others > 0 and letters > 2) or (digits > 9 and "pass" in name)


def entropy(value: str) -> float:
    """Bits a character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _is_random(value: str) -> bool:
    """Whether a long string looks drawn, not written."""
    tail = value[4:]
    mixed = any(c.isdigit() for c in tail) + any(c.islower() for c in tail) + any(c.isupper() for c in tail)
    return len(set(tail)) > 7 and entropy(tail) > 3.0 and (mixed > 1 or value.isupper())


def _of_detectors(text: str) -> Iterator[Secret]:
    """What detect-secrets knows, in windows of a fixed size, so that none of its patterns can be slow."""
    if not _HINTS.search(text.encode()):
        return
    position = -1
    for hint in _HINT.finditer(text):
        if hint.start() < position:
            continue
        start = max(0, hint.start() - 64)
        position = start + _WINDOW - 64
        window = text[start : start + _WINDOW]
        for pattern in _shapes():
            for found in pattern.finditer(window):
                value = found.group()
                if any(c.isdigit() for c in value) and _is_random(value) and not _PLACEHOLDER.search(value):
                    yield Secret(start + found.start(), start + found.end(), "high")


@cache
def _shapes() -> "tuple[re.Pattern[str], ...]":
    found: list[re.Pattern[str]] = []
    for module, name in _DETECTORS:
        detector = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)
        found.extend(pattern for pattern in detector.denylist if "^" not in pattern.pattern[:1])
    return tuple(found)
