"""Script that would run where the text is shown as a page (XSS)."""

from embedctl.data.checks.patterns import compiled

_HANDLER = (
    r"on(?:abort|activate|after\w{3,12}|animation\w{3,10}|auxclick|before\w{3,16}|begin|blur|bounce|cancel"
    r"|canplay\w{0,8}|cellchange|change|click|close"
    r"|contextmenu|control\w{3,8}|copy|cuechange|cut|data\w{3,16}|dblclick|deactivate|drag\w{0,8}|drop"
    r"|durationchange|emptied|end|ended|error\w{0,8}"
    r"|filterchange|finish|focus\w{0,4}|formchange|forminput|formdata|fullscreen\w{4,8}|gotpointercapture"
    r"|hashchange|help|input|invalid|key(?:down|press|up)|languagechange"
    r"|layoutcomplete|load\w{0,12}|losecapture|lostpointercapture|media\w{3,10}|message\w{0,6}|mouse\w{2,6}"
    r"|move\w{0,6}|offline|online|open|outofsync|page\w{3,7}|paste|pause|play\w{0,4}"
    r"|pointer\w{2,14}|popstate|progress|property\w{3,8}|ratechange|readystatechange|rejectionhandled|repeat"
    r"|reset|resize\w{0,6}|resume|reverse|row\w{3,12}|scroll\w{0,4}"
    r"|search|seek\w{0,4}|seeked|seeking|select\w{0,10}|show|slotchange|stalled|start|stop|storage|submit"
    r"|suspend|syncrestored|timeerror|timeupdate|toggle"
    r"|touch\w{3,8}|trackchange|transition\w{3,8}|unhandledrejection|unload|urlflip|volumechange|waiting|wheel"
    r"|webkit\w{5,24})"
)
_CALL = (
    r"(?:alert|prompt|confirm|eval|settimeout|setinterval|function|fetch|atob|import|write"
    r"|string\.fromcharcode|document\.(?:write|cookie|location|domain)|window\.\w+|console\.log|print)"
)

# Enough alone: what runs, or does nothing but run.
STRONG = compiled(
    r"<[\s/\\]{0,6}script\b[^\n]*(?:alert|prompt|confirm|eval|document\.|window\.|location|fromcharcode"
    r"|javascript|\bsrc\s{0,4}=\s{0,4}[\"']?(?:data:|//))"
    r"|<[^<>\n]*?[\s/\"'\\)`]" + _HANDLER + r"\s{0,8}[^\w\s=<>]{0,24}\s{0,8}=\s{0,8}[^\s=>]"
    r"|(?:^|[\s\"'`/])" + _HANDLER + r"\s{0,8}=\s{0,8}[\"'`\\x0-9]{0,6}\s{0,4}(?:" + _CALL + r"|javascript)\b"
    r"|(?:java|vb|live|j\s{0,6}a\s{0,6}v\s{0,6}a)\s{0,12}s\s{0,6}c\s{0,6}r\s{0,6}i\s{0,6}p\s{0,6}t\s{0,12}(?:&colon;|:)(?:[\"'(\[/%\\`+!]|\s{0,8}(?:\w{1,20}\s{0,2}[(.\[=:`]|void\b|[\"'(\[%\\`]))"
    r"|\bdata:\s{0,4}(?:text/html|image/svg\+xml|application/\w{0,20}script|text/javascript)[;,]"
    r"|(?:style|css)\b[^\n<>]*(?:expression|-moz-binding|behaviou?r\s{0,4}:\s{0,4}url|@import"
    r"|url\s{0,2}\(\s{0,4}['\"]?javascript)"
    r"|:\s{0,8}(?:/\*[^*\n]{0,20}\*/)?e?x?\\?\W{0,6}expression\\?\s{0,4}\("
    r"|\b(?:alert|prompt|confirm)\s{0,4}[(`]\s{0,4}(?:[0-9]{1,8}|['\"`/][^\n]{0,80}|document\.\w+|window\.\w+"
    r"|this|origin|location|\))"
    r"|<(?:\?xml-stylesheet|!\[cdata\[|!doctype[^>\n]{0,60}svg)[^\n]*(?:javascript|<script|alert)"
    r"|\bsrcdoc\s{0,4}=|<meta\b[^>\n]*(?:refresh|set-cookie)"
    r"|document\s{0,2}\.\s{0,2}cookie\s{0,2}[=)+;}\]\"'<]|[=(+]\s{0,2}document\.cookie"
    r"|document\s{0,2}\.\s{0,2}(?:write(?:ln)?\s{0,2}\(|location\s{0,2}=)|<base\b[^>\n]{0,60}href\s{0,4}="
    r"|string\.fromcharcode\s{0,2}\(|\binnerhtml\s{0,4}="
    r"|\bconstructor\s{0,2}\.\s{0,2}constructor|\[\s{0,2}['\"]constructor['\"]\s{0,2}\]|(?:window|self|top"
    r"|parent|globalthis)\s{0,2}\[\s{0,2}['\"]\w"
)

# Elements that a payload brings; in a longer text they are what is left of a page.
WHOLE = compiled(
    r"<[\s/\\]{0,6}(?:script|iframe|object|embed|svg|applet|meta|base|link|style|frameset|frame|layer|ilayer"
    r"|bgsound|plaintext|xss|math|isindex"
    r"|marquee|input\b[^>\n]*autofocus|details\b[^>\n]{0,60}open|video|audio|body|xml"
    r"|listing|xmp|noscript|template|foreignobject|animate|set\b|import)\b"
    r"|<\\?[\"'!?%/x0-9]{0,8}(?:[0-9a-f]{2})?script\b|(?:^|[\"'>;/)}])\s{0,4};?\s{0,4}(?:alert|prompt|confirm|eval)[(`]|-->\s{0,4}<|<!--\[if|\bsrc\s{0,4}=\s{0,4}[\"']?\s{0,4}(?:javascript|data|vbscript)"
    r"|<[a-z]\w{0,12}[\s/][^<>\n]*(?:autofocus|onerror|formaction|xlink:href|srcdoc|allowscriptaccess"
    r"|background\s{0,2}=\s{0,2}[\"']?java)"
    r"|</(?:textarea|title|style|script|xmp|noscript|template)\b[^>\n]{0,20}>\s{0,8}<|<foo\b"
    r"|<img\b[^>\n]*(?:src\s{0,4}=\s{0,4}[\"'`]?\s{0,4}[x#&\\0]|\"\"\"|`)|[\"']\s{0,4}/?>\s{0,4}<"
)

SCREEN = (
    r"<[\s/\\\"'!?%]{0,6}(?:[x0-9a-f]{2,4})?(?:script|iframe|object|embed|svg|applet|meta|base|link|style|frame"
    r"|layer|ilayer|bgsound|plaintext|xss|math|isindex|marquee|form|input"
    r"|details|video|audio|body|xml|listing|xmp|noscript|template|foreignobject|animate|set|img|image|foo|a|div"
    r"|b|p|i|u|x|table|td|textarea|title|button|select|keygen|import|!\[cdata)[\s/>\\\"'<=,:\[]"
    r"|[\s\"'`/\\]on\w{3,24}\s{0,8}=|script\s{0,12}:|scr\s{0,4}ipt|j\s{0,4}a\s{0,4}v\s{0,4}a\s{0,4}s"
    r"|data:\s{0,4}(?:text|image/svg|application)|expression\\?\s{0,4}\(|-moz-binding|\balert\b\s{0,4}[(`]"
    r"|\b(?:prompt|confirm|eval)\s{0,4}[(`]|srcdoc|document\.(?:cookie|write|location)|fromcharcode|innerhtml"
    r"|\.constructor|<!--\[|-->|<\\|>\s{0,4}<script|(?:window|self|top)\["
)
