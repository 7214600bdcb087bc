"""Commands, paths, templates and format strings that a program might carry out."""

from embedctl.data.checks.patterns import compiled

_PROGRAM = (
    r"(?:rm\s+-|wget\s|curl\s|nc\s+-|ncat\s|netcat\s|cat\s+[/~$.]|bash\b|sh\s|zsh\s|python[23]?\s|perl\s|ruby\s"
    r"|php\s|ping\s+-?\w|nslookup\s|dig\s"
    r"|whoami\b|id\b\s{0,2}(?:$|[;|`)#]|&&)|uname\b|ls\s+[-/~.]|ls\s{0,4}$|touch\s+/|echo\s|sleep\s+[0-9]"
    r"|chmod\s|chown\s|kill\s|mkfifo\s|telnet\s|ssh\s|scp\s"
    r"|powershell\b|cmd(?:\.exe)?\s{0,4}/[ck]|certutil\s|bitsadmin\s|net\s+user|ipconfig\b|ifconfig\b|netstat\b"
    r"|dir\s+[a-z]:|type\s+[a-z%]:?\\"
    r"|reboot\b|shutdown\s|mail\s|phpinfo\s{0,4}\(|system\s{0,4}\(|exec\s{0,4}\(|eval\s{0,4}\(|/bin/|/usr/bin/"
    r"|/etc/|env\b\s{0,2}$|printenv\b|ps\s+-|crontab\b)"
)

# Enough alone.
STRONG = compiled(
    r"(?:[;|&`]|\$\(|%0a|&&)\s{0,8}"
    + _PROGRAM
    + r"|/etc/(?:passwd|shadow|hosts|group|issue|sudoers|crontab|motd)\b|/proc/self/(?:environ|cmdline|fd|maps)"
    r"|\bboot\.ini\b|\bwin\.ini\b|\bweb\.config\b.{0,4}$"
    r"|(?:\.\.[\\/]{1,4}){2,}|(?:\.{4,}//){2,}|\.\.[\\/][^\s\"']{0,60}(?:\x00|%00)|(?:\.\.(?:%2f|%5c|%252f"
    r"|%c0%af|%c1%9c)){1,}|\.\./\.\.|\.\.\\\.\."
    r"|\{\{\s{0,4}(?:[0-9]+\s{0,4}[*+-]|config\b|self\b|request\b|''|\"\"|\[\]|\(\)|cycler|lipsum|url_for"
    r"|constructor|\$on|7|dump\(|_self|app\.|get_flashed)"
    r"|\{\{[^{}\n]*(?:__class__|__mro__|__globals__|__builtins__|__import__|popen|\.constructor|getClass"
    r"|subclasses|system\(|exec\()"
    r"|\{%\s{0,4}(?:print\b|import\b|include\s+['\"]/|for\s+\w+\s+in\s+\[\]|debug"
    r"|set\s+\w+\s{0,4}=\s{0,4}(?:cycler|config|self|request))"
    r"|[$#*@]\{\s{0,4}(?:[0-9]+\s{0,2}[*+-]\s{0,2}[0-9]|t\(|jndi:|env:|sys:|java:|lower:|upper:|date:|script:"
    r"|dns:|url:|ctx:|::-|new\s|\"\"\.|''\.|class\.|runtime"
    r"|pagecontext|request|session|applicationscope|T\(|self\.|system|ifs)"
    r"|<%=?\s{0,4}(?:[0-9]+\s{0,2}[*+-]|system|`|eval|exec|file|io\.|response|request|runtime|@\s{0,2}page"
    r"|dim\s|new\s|out\.|import)"
    r"|<\?(?:php\b|=)\s{0,8}(?:[^?]{0,80}(?:system|exec|passthru|eval|shell_exec|phpinfo|assert|popen|\$_(?:get"
    r"|post|request|cookie|server)|include|file_get_contents|`)|print|echo)"
    r"|<!--#\s{0,4}(?:exec|include|echo|printenv|config)\b|<#(?:assign|list|if)\b[^>\n]*|#set\s{0,2}\(\s{0,2}\$"
    r"|\$\{[^}\n]{0,60}(?:getclass|forname|exec\(|runtime)"
    r"|\(\)\s{0,4}\{\s{0,4}(?:0|:|_|x)?\s{0,4};\s{0,4}\}|<!(?:entity|doctype)\b[^>\n]*\b(?:system"
    r"|public)\s+['\"]?(?:file|http|ftp|php|expect|gopher|data|jar|netdoc|/|\w+:)"
    r"|<!entity\s+%?\s{0,4}\w+\s+(?:system|public|['\"])|<xi:include\b|\b(?:file|gopher|dict|expect|php|phar"
    r"|zip|netdoc|jar):/{2,3}(?:/etc|/c:|filter|input|127\.|localhost|/)"
    r"|\b(?:os\.system|os\.popen|subprocess\.(?:call|run|popen|check_output)|runtime\.getruntime\(\)"
    r"|child_process|kernel\.(?:exec|exit|system|open)|io\.popen|proc_open|shell_exec|passthru)\s{0,4}['\".(]"
    r"|__import__\s{0,2}\(|\bprocess\.(?:mainmodule|binding)\b|`[^`\n]{0,40}\b(?:touch|rm|cat|ls|id|whoami|wget"
    r"|curl|sleep|ping|nslookup|uname)\b[^`\n]{0,80}`"
    r"|@\{\s{0,2}\[\s{0,2}(?:system|exec|`)|>_\[\$|%x[({'\[]|\bdcc send\b|\+\+\+ath[0-9]"
    r"|\\\\\w[\w.-]{2,40}\\\w{1,30}\\.{0,40}$"
    r"|[&|;]\s{0,4}(?:set|dir|ver|systeminfo|tasklist|hostname)\s{0,4}(?:$|[&|;])|\\windows\\system32"
    r"|(?:^|[^!n])/bin/(?:sh|bash|cat|ls|nc|ping|id|uname)\b|/dev/tcp/|\bcmd\.exe\b\s{0,4}/"
    r"|\bpowershell(?:\.exe)?\s{1,4}-(?:e|enc|nop|w|c|ep|exec)|\b(?:wget"
    r"|curl)\s{1,4}(?:-\w+\s{1,4}){0,4}https?://[^\s|;]*\s{0,4}[|;&>]|\|\s{0,4}(?:bash|sh|zsh)\b"
    r"|(?:%n|%s|%x|%p|%08x|%d|%\d{1,3}\$[nsxp]|%\*?\.\*?\d{0,3}[sn])[.\s,-]?(?:(?:%n|%s|%x|%p|%08x|%d"
    r"|%\d{1,3}\$[nsxp])[.\s,-]?){2,}|%n[.\s]?%n|%\d{1,3}\$n|%\*\.\*s|%0?\d{3,6}[dxc]$"
)

# Payloads only if they are the whole text.
WHOLE = compiled(
    r"^\s{0,4}(?:"
    r"(?:[;|]|&&|\|\||&\s)\s{0,4}(?-i:[a-z/.$\\])[^\s;]{0,80}[;\s]{0,2}|\$\([^()\n]*\)[^\n]*"
    r"|\$\{?[A-Z_]{2,20}\}?(?:\{'?\w+'?\})?|%[a-z]|%@|%\w+%|\{\d{1,3}\}"
    r"|\{\{[^{}\n]*[^\w\s.{}|-][^{}\n]*\}\}|\{%[^%\n]*%\}|\$\{[^{}\n]*\}|#\{[^{}\n]*\}|<%[^%\n]*%>"
    r"|\*\{[^{}\n]*\}|@\([^()\n]*\)"
    r"|(?:system|exec|eval|passthru|popen|shell_exec|assert|include|require|phpinfo)\s{0,2}\(\s{0,4}[\"'`$@][^\n]*\)?;?"
    r"|(?:file|gopher|dict|expect|php|phar|ldap|jar):/{2,3}[^\n]*|/dev/(?:null|tcp|random|zero)\b[^\n]*|<<<\s[^\n]*"
    r"|(?:%00|\\0|\\x00)[^\n]{0,60}|--(?:version|help)|[^\s\"']*%00\S{0,10}|[^\n]*<\?(?:php)?[^\n]*\?>"
    r"|(?:\.\.[\\/])+(?:etc|windows|winnt|boot|proc|var|\w{1,30}\.(?:conf|ini|cfg|key|pem))\b[^\s]*"
    r"|(?:cat|ls|id|whoami|uname|pwd|rm|wget|curl|ping|nc|netstat|ifconfig"
    r"|ipconfig)\s{1,4}[-/$~.][^\n]*"
    r"|[a-z]:[\\/](?:windows|winnt|boot|inetpub)[^\n]*|/(?:etc|proc|var/log|root|home|usr/local"
    r"|opt|bin)/[^\s]*"
    r"|(?:CON|PRN|AUX|CLOCK\$|COM[1-9]|LPT[1-9])(?:\.\w{1,4})?"
    r")\s{0,4}$"
)

SCREEN = (
    r"[;|&`\n]\s{0,8}(?:rm\s+-|wget\s|curl\s|nc\s+-|ncat\s|cat\s+[/~$.]|bash\s|sh\s|python[23]?\s+-|perl\s+-"
    r"|ping\s+-|nslookup\s|whoami\b|uname\s|ls\s+[-/~]|touch\s+/"
    r"|sleep\s+[0-9]|powershell\b|cmd(?:\.exe)?\s{0,4}/|certutil\s|net\s+user|ipconfig\b|ifconfig\b|netstat\b"
    r"|phpinfo|/bin/|/usr/bin/|/etc/|systeminfo|tasklist)"
    r"|(?m)^\s{0,4}[;|&]{1,2}\s{0,4}\w+|[;|&]\s{0,4}(?:id|ls|dir|set|ver|echo|env|ps|dig|hostname|system|exec|eval)\b"
    r"|/etc/|/proc/self|boot\.ini|win\.ini|\.\.[\\/%]\.?\.?|\.{4}//|\{\{[^<%>{\s]|\{\{\s+[^<%\s]"
    r"|\{%|[$#*@]\{|<%|<\?|<!--#|<#\w|#set"
    r"|\(\)\s{0,4}\{|<!(?:entity|doctype)|<xi:"
    r"|\b(?:file|gopher|dict|expect|php|phar|zip|netdoc|jar|ldap)://|os\.(?:system|popen)|subprocess\."
    r"|getruntime|child_process|kernel\.|popen|proc_open|shell_exec|passthru"
    r"|__import__|process\.(?:main|bind)|`[a-z]|\$\(|%x[({'\[]|dcc send|\+\+\+ath"
    r"|\\\\\w[\w.-]{2,40}\\|system32|/bin/|/dev/"
    r"|cmd\.exe|powershell\s|%00"
)
SIGNS_SCREEN = (
    r"%(?:[0-9]{1,4}\$?)?[nsxpdc@*]|%\w+%"
    r"|(?m)^\s{0,4}(?:\$[A-Z_]{2,}|--(?:version|help)|\{[0-9]+\}|\.{1,2}[\\/]\S|(?:cat|ls|id|uname|rm|wget|curl"
    r"|ping|nc)\s{1,4}[-/$~.]|[a-z]:[\\/]|/(?:etc|proc|var|root|home|usr|opt|bin)/\S"
    r"|(?:system|exec|eval|assert|include|require|import|open|print|puts)\s{0,2}\(\s{0,4}[\"'`$@]|<<<\s|(?:CON"
    r"|PRN|AUX|CLOCK\$|COM[1-9]|LPT[1-9])\s{0,4}$)"
)
