"""SQL (and NoSQL, LDAP, XPath) injections: signs are weighed, as one of them alone is often ordinary text."""

import re

from embedctl.data.checks.disguise import without_comments
from embedctl.data.checks.patterns import compiled, compiled_set, subject

# What only an attack says, or a lesson about it: enough alone, in a text of any length.
_STRONG = (
    r"\bunion\b[\s(+]{1,8}(?:(?:all|distinct|distinctrow)\b[\s(+]{1,8})?select\b\s{0,8}(?:$|[^\w\s]|[0-9]|null\b|all\b"
    r"|distinct\b|top\b|\w{1,30}\s{0,4}[(,@+|]|[^\n]*\bfrom\b)",
    r"\bunion\s{0,4}(?:all\s{0,4})?select\s{0,4}(?:null|char|[0-9@'\"(])",
    r"['\")0-9]\s{0,8};\s{0,8}(?:drop|truncate|alter|delete|insert|update|shutdown|exec|execute|declare|create"
    r"|grant|begin"
    r"|select|waitfor)\b\s{1,8}(?:table|database|user|from|into|immediate|login|function|xp_|sp_|master|@"
    r"|\w{1,30}\s+set\b"
    r"|[*(@'\"0-9])",
    r"\bwaitfor\s{1,8}(?:delay|time)\b\s{0,8}\\?['\"(_0-9@]",
    r"\bpg_sleep\s{0,8}\(|\bbenchmark\s{0,8}\(\s{0,8}[0-9_]{1,12}\s{0,8},",
    r"\b(?:xp_(?:cmdshell|reg\w{2,20}|dirtree|fileexist|servicecontrol|\w{3,20})|sp_(?:executesql|oacreate"
    r"|oamethod|password"
    r"|makewebtask|msforeachtable|addextendedproc|configure|addsrvrolemember|addlogin))\b",
    r"\butl_(?:http|inaddr|file|smtp|tcp)\b|\bdbms_(?:pipe|lock|output|ldap|java|xslprocessor"
    r"|export_extension)\b\s{0,4}\.",
    r"\bload_file\s{0,8}\(|\binto\s{1,8}(?:out|dump)file\b|\bload\s+data\s+(?:local\s+)?infile\b",
    r"\b(?:extractvalue|updatexml|xmltype|randomblob|sys_eval|sys_exec|lo_import|lo_export)\s{0,8}\(\s{0,8}[\w'\"(]",
    r"['\")0-9]\s{0,8}(?:or|and|xor|&&|\|\|)\s{0,8}\(?\s{0,8}\(?(?:sleep|benchmark|pg_sleep|ascii|substring"
    r"|substr|mid)\s{0,4}\(",
    r"['\"]\s{0,8}\){0,6}\s{0,8}(?:or|and|xor|&&|\|\|)[\s(!+-]{0,8}['\"][^'\"\n]{0,30}['\"]\s{0,8}\)?(?:=|<>|!="
    r"|<|>|like\s{0,4}['\"(%])",
    r"['\"]\s{0,8}\){0,6}\s{0,8}(?:or|and|xor|&&|\|\|)[\s(!+-]{0,8}\w{1,12}\s{0,8}(?:=|<>|!=|<|>"
    r"|like\b)\s{0,8}\w{1,12}\s{0,8}(?:--|#|/\*)",
)
# Signs that need company: weight, pattern. Together they must reach _ENOUGH.
_SIGNS = (
    (2, r"^[\s'\")]{0,12}(?:order|group)\s{1,8}by\s{1,8}(?:[0-9(]|sleep|if\b|case\b)"),
    (2, r"^[\s'\")]{0,12}(?:having|where|and|or|xor|as\s+\w+\s+where)\b[\s(+!-]{1,8}(?:not\s+)?['\"]?[\w.@]{1,2"
    r"0}['\"]?\s{0,8}"
        r"(?:=|<>|!=|<=|>=|<|>)"),
    (2, r"['\"]\s{0,8}\){0,6}\s{0,8}(?:or|and|xor|having|&&|\|\|)[\s('\"!+-]{1,8}[\w.@]{0,20}['\"]?\s{0,8}"
        r"(?:=|<>|!=|<=|>=|<|>|\blike\s{0,4}['\"(%]|\bin\s{0,4}\(|\bis\s+(?:not\s+)?null|\bbetween\s+[0-9'\"]"
        r"|\brlike\b|\bregexp\b)"),
    (2, r"\b(?:or|and|xor|having|where)\b[\s(+!-]{1,8}['\"]?\d{1,9}['\"]?\s{0,8}(?:=|<>|!=|<"
    r"|>)\s{0,8}['\"]?\d{1,9}\b"),
    (2, r"['\"][\s)]{0,8}\b(?:or|and)\b[\s('\"]{0,8}['\"][^'\"\n]{0,20}(?:$|['\"]\s{0,8}(?:--|#|/\*|[&^*|+=-]))"),
    (2, r"(?:\bor\b|\|\|)[\s(!]{1,8}(?:not\s+)?(?:true|1|exists\s{0,4}\(|isnull\s{0,4}\("
    r"|ascii\s{0,4}\()\s{0,8}(?:--|#|/\*|\(|$|select)"),
    (2, r"\bor\b\s{0,8}['\"]{1,2}\s{0,8}(?:[-&^*|+=]|\s$|$)"),
    (2, r"\b(?:and|or)\s{1,8}\w{1,12}\s{0,4}=\s{0,4}(?:like|convert|cast|if|benchmark|sleep|utl_\w+|ctxsys\w*"
    r"|\(\s{0,4}(?:select|if))\b"),
    (2, r"(?:^|[^.\w])(?:sleep|delay)\s{0,8}\(\s{0,8}(?:[0-9_])"),
    (4, r"\b(?:information_schema|sysobjects|syscolumns|sysusers|sysdatabases|sysservers|msysobjects"
    r"|sqlite_master|syscat"
        r"|sysibm|pg_(?:catalog|user|shadow|class|tables|database|read_file|ls_dir)|all_(?:tables|tab_columns|users)"
        r"|user_(?:tables|tab_columns|objects)|dba_(?:users|tables|role_privs)|mysql\.(?:user|db)|master\.\."
        r"|v\$version"
        r"|sys\.(?:user\$|all_|database|tables|objects|dba_))"),
    (2, r"@@\w{3,30}|\bdeclare\s{1,8}@\w|\bexec(?:ute)?\s{0,8}(?:immediate\b|\(\s{0,4}['\"@]|@|master\b|sp\b"
    r"|xp\b|sp_|xp_)"),
    (2, r"\$(?:where|gt|gte|lt|lte|ne|nin|regex|exists|or|and)\b['\"]?\]?\s{0,4}[:=]"
    r"|\{\s{0,4}['\"]?\$\w{2,8}['\"]?\s{0,4}:"),
    (2, r"\bthis\.\w{1,30}\.(?:match|length|constructor)\b|\)\s{0,2}\(\s{0,2}["
    r"|&]\s{0,2}\(\s{0,2}\w{1,20}\s{0,2}=|\*\)\(\w{1,20}="),
    (2, r"\bcopy\s+\w{1,30}\s+(?:from|to)\s+['\"]|\bselect\s+(?:load_extension|pg_\w+|current_(?:user|database"
    r"|setting)|session_user"
        r"|system_user|user\b|version\b|database\b|host_name|inet_server|has_\w+_privilege|name\s*,\s*pass\w*)"),
    (2, r"\bnull\s{0,4}(?:,\s{0,4}null\s{0,4}){1,60}\)?\s{0,8}(?:--|#|/\*|union|waitfor|from|$)"
    r"|\bif\s{0,4}\(\s{0,4}(?:benchmark|sleep|load_file)"),
    (2, r"^\W{0,4}(?:tz_offset|to_timestamp_tz|bfilename|xp_\w+|sp_\w+|@@\w+|0x[0-9a-f]{16,})[\s.()]{0,12}$"
    r"|^(?:%[0-9a-f]{2})+$"),
    (2, r"^['\"][\s)]{0,8}(?:or|and)\s{0,4}\([\w\s*]{0,40}\)|^['\"]\s{0,4}(?:\+|\|\|"
    r"|\s)\s{0,4}\w{1,30}\s{0,4}(?:\(|\+|\|\||\.\w)|^['\"][+|]{1,2}\w"),
    (2, r"^[^a-z0-9]*['\"][^a-z0-9]*[#/*;=&^|+<>-][^a-z0-9]*$|^[^a-z0-9]*[#/*;=&^|+<>-][^a-z0-9]*['\"][^a-z0-9]*$"),
    (2, r"^\s{0,4}[,;]\s{0,4}@{1,2}\w+|^[^\w\s]{0,3}/\*[^\w\s]{0,3}$"),
    (2, r"^[^\w\s]{0,6}['\"]\s{0,4}(?:--|#|/\*|;)"),
    (2, r"^\s{0,4}(?:admin|root|user|test|1|0|-1|a|x|t|hi|\w{1,3})['\"][\s)]{0,6}(?:or\b|and\b|--|#|/\*|;|\|\|"
    r"|&&|union|having|group|order|exec)"),
    (2, r"\b(?:drop|truncate|alter)\s+(?:table|database|user|view|login|schema)\s+\w{1,40}\s{0,4}(?:;|--|#|/\*|$)"),
    (2, r"\b(?:insert\s+into|delete\s+from|update)\s+(?:master|mysql|sys|users?|admins?|accounts?|members?"
    r"|login\w{0,8})\b[^\n]*"
        r"(?:--|#|/\*|;|\bvalues\b|\bset\b|$)"),
    (1, r"['\"][\s)]{0,8}(?:--|#|/\*|;|%00)"),
    (1, r"(?:--|#|/\*|;%00)[\s'\")+-]{0,8}$"),
    (1, r"^[\s'\")]{0,12}(?:or|and|xor|having|where|union|limit|procedure"
    r"|exec|execute|drop|declare|like|into|&&|\|\||,|;|\)|\+)(?:\b|[\s(@'\"])"),
    (1, r"\bselect\b[^\n]*\bfrom\b|\(\s{0,4}select\b|\bselect\s+[@*0-9'\"(]"),
    (1, r"\b(?:substring|substr|ascii|mid|concat|group_concat|convert|cast|char|chr|nchar|count|exists|hex"
    r"|unhex|md5|sha1|len|length"
        r"|user|database|version|upper|lower|if|iif|case|isnull|is_srvrolemember|serverproperty|dbms_\w+|rownum"
        r"|instr|to_char"
        r"|request|bin_to_num|row|floor|rand)\s{0,4}\("),
    (1, r"\b0x[0-9a-f]{6,}|\bchar\s{0,4}\(\s{0,4}[0-9]|['\"]\s{0,4}(?:\|\||\+)\s{0,4}['\"\w]|\|\|\s{0,4}['\"]"),
    (1, r"(?:=|<>|!=|\blike\s{0,4}['\"(%]|\bis\s+(?:not\s+)?null\b)"),
    (1, r"\b(?:varchar|nvarchar|varbinary|procedure\s+analyse|rlike|regexp|limit\s+[0-9]+\s*(?:,|offset|--|#|;"
    r"|$)|top\s+[0-9]+)\b"),
)  # fmt: skip
_ENOUGH = 2
_PLUS = re.compile(r"(?<=\w)\+(?=\w)")
_STRONG_WEIGHT = 3

STRONG = compiled("|".join(_STRONG))
_SIGNS_SET = compiled_set([pattern for _, pattern in _SIGNS])

# What makes a text worth weighing: every sign begins with one of these.
SCREEN = "|".join(_STRONG)
_OTHER_SIGNS = "|".join((
    r"=|<>|!=|^\s{0,4}[,;]\s{0,4}@|\blike\s{0,4}['\"(]|['\"]\s{0,4}[<>]|@@|\bselect\s|\bunion\b\s{0,4}(?:all\b|select\b|/|\()"
    r"|\b(?:order|group)\s+by\s+[0-9(]|\$(?:where|gt|ne|lt|regex)\b",
    r"['\"][\s)]{0,8}(?:--|#|/\*)|['\"][\s)]{0,8}(?:or|and|xor|having|union|exec|&&"
    r"|\|\|)[\s('\"]{1,8}(?:['\"0-9(]|true\b|not\b|exists\b|\w{1,20}\s+(?:is|in|between|like)\b)",
    r"\b(?:(?:sleep|delay|benchmark|char|tz_offset|isnull|exec)\s*\(|delay\s*['\"]|waitfor\b|sysobjects"
    r"|sqlite_master|declare\s+@|exec\s+\w|execute\s+immediate|is_srvrolemember"
    r"|tz_offset|to_timestamp_tz|bfilename)",
    r"(?m)^[^A-Za-z0-9\n]{0,30}['\"][^A-Za-z0-9\n]{0,30}$",
    r"0x[0-9a-f]{8}|\*\)\(\w|\bthis\.\w+\.match|\bcopy\s+\w+\s+from\s+'|\b(?:drop|truncate)\s+(?:table"
    r"|database)\b|(?:\|\||\+)\s{0,2}['\"]",
))  # fmt: skip
_ENDING = r"(?:--|#|/\*|\btrue|\bnull|\(|;)\s{0,4}$"
_LINE = (
    r"^\s{0,8}(?:or|and|having|where|limit|union|procedure|copy\s+\w+\s+from|drop|truncate|alter|delete"
    r"|insert|update|create|shutdown|;|\|\||&&|,|\+)\b?[\s'\"(][^\n]*"
)
# How a line begins that ends like this is asked afterwards: until its end the automaton of the screen would be in other
# states than without it.
SIGNS_SCREEN = f"{_OTHER_SIGNS}|(?m){_ENDING}"
_SIGNS_THERE = compiled(f"(?m){_OTHER_SIGNS}|{_LINE}{_ENDING}")


def has_signs(text: str) -> bool:
    """Whether a text in which the screen saw signs is worth weighing."""
    return bool(_SIGNS_THERE.search(subject(text)))


def weigh(text: str) -> int:
    """How much speaks for an injection in a text that is short, or one line; ``_ENOUGH`` makes a finding."""
    plain = _normal(text)
    searched = subject(plain)
    if STRONG.search(searched):
        return _STRONG_WEIGHT
    weight = sum(_SIGNS[number][0] for number in _SIGNS_SET.Match(searched) or ())
    return weight if _is_terse(plain) else weight - 2


def is_enough(weight: int) -> bool:
    return weight >= _ENOUGH


def _is_terse(text: str) -> bool:
    """Whether the text is not a sentence: few words in lower case beside its signs."""
    words = text.split()
    plain = sum(word.strip(".,;:!?'\"()").isalpha() for word in words)
    return plain <= 4 or plain * 2 < len(words)


def _normal(text: str) -> str:
    text = (
        text.replace("\u2032", "'")
        .replace("\u2018", "'")
        .replace("\u2019", "'")
        .replace("\u201c", '"')
        .replace("\u201d", '"')
    )
    text = without_comments(text.replace("\u2013", "--").replace("\u2014", "--").replace("\\t", " "))
    if " " not in text.strip() and "+" in text:
        text = _PLUS.sub(" ", text)
    return " ".join(text.split()) + (" " if text[-1:].isspace() else "")
