"""Orders to a language model, in English and the common European languages.

A sign is a small grammar: what is told (a verb of forgetting, of revealing, of role), and of what (instructions,
the prompt, a role). Signs that also occur in stories count only in a short text.
"""

from embedctl.data.checks.orders import DROP, EARLIER, EVERYTHING, GAP, MATTERS, NEAR, PROMPT, RULES, SHOW
from embedctl.data.checks.patterns import Seldom, compiled_set

# Enough alone, in a text of any length.
_STRONG = (
    DROP + GAP + EARLIER + NEAR + RULES,
    DROP + r"[\s\"'*_-]+" + RULES + r"\b",
    DROP
    + r"\s+(?:all\s+|any\s+)?(?:of\s+)?(?:the\s+|my\s+|your\s+)?(?:previous|prior|preceding|above|earlier|foregoing)"
    + r"\s+(?:\w+\s+){0,2}"
    + MATTERS
    + r"\b",
    DROP
    + NEAR
    + RULES
    + NEAR
    + r"\b(?:above|before|previous|prior|ci-dessus|anteriores|précédentes|acima|precedenti|davor|oben)\b",
    r"(?:obige\w?|vorherige\w?|bisherige\w?)\s+(?:\w+\s+){0,2}(?:anweisung\w{0,2}|ausführungen|instruktionen"
    r"|aufgaben)\s+(?:ignorier|vergess|missacht)\w{0,3}",
    r"(?:reveal|show|print|output|display|repeat|leak|disclose|expose|dump|zeige?|gib|verrate|wiederhole"
    r"|affiche|montre|révèle|muestra|revela|mostra|rivela)\w{0,2}"
    + NEAR
    + r"(?:(?:system|initial|hidden|original|secret|your)[\s_-]+(?:\w+[\s_-]+)?(?:prompt|instructions|rules"
    r"|guidelines|directives|programming)|prompt[\s_-]?text|system-?prompt|deine[nr]?\s+anweisungen"
    r"|tes\s+instructions|tus\s+instrucciones)",
    r"<\|?(?:im_start|im_end|endoftext|system|assistant|user|begin_of_text|start_header_id|eot_id|end_header_id"
    r"|endofprompt)\|?>|\[/?(?:inst|sys|system)\]|<</?sys>>|<(?:start|end)_of_turn>|<｜\w{3,20}｜>",
    r"(?m)^[\s>#*_`\[{(<-]{0,6}(?:system|assistant|new\s+(?:system\s+)?instructions?|developer|admin"
    r"|system\s+(?:message|override|note|prompt|instruction))[\s\]>)*_}-]{0,4}:[\s*_]{0,4}(?:you\b|ignore"
    r"|the\s+user|please|from|do\s|never|always|sure|override|all\b|forget|enter|mode|disregard|respond|your|new)",
    r"\b(?:you\s+are|du\s+bist|tu\s+es|vous\s+êtes|eres|você\s+é|sei|je\s+bent|act\s+as|enable|enter|activate"
    r"|switch\s+to|now\s+in|into)\s+(?:\w+\s+){0,4}(?:dan\b|developer\s+mode|jailbroken|god\s+mode|debug\s+mode"
    r"|sudo\s+mode|unrestricted|unfiltered|uncensored|evil\s+(?:ai|bot|twin)|stan\b|dude\b\s+mode|aim\b\s+mode"
    r"|entwicklermodus|mode\s+développeur|modo\s+desarrollador)",
    r"\bdo\s+anything\s+now\b|\bjailbreak(?:ed|ing)?\s+(?:mode|prompt|yourself|this|the\s+(?:ai|model|llm))"
    r"|\bwithout\s+(?:any\s+)?(?:moral|ethical|safety|content|censorship)\w{0,4}\s+(?:\w+\s+){0,3}(?:filter"
    r"|restriction|guideline|limitation|constraint|warning)s?",
    r"(?:^|[.!?:\"\n]\s{0,4}|\b(?:ok|okay|hi|hello|and|but),?\s+)(?:now\s+)?you\s+(?:are"
    r"|will\s+be)\s+now\s+(?:an?\s|the\s|in\s|called\s|known\s|acting\s|entering\s|going\s+to\s+(?:act|be|play)"
    r"|free\b|(?-i:[A-Z][A-Za-z]+))|\bnow\s+you\s+are\s+(?:an?\s|the\s|(?-i:[A-Z]\w+))"
    r"|\b(?:from\s+now\s+on,?\s+(?:you|act|respond|answer|reply|your)|ab\s+(?:jetzt|sofort|nun)\s+(?:bist|sind"
    r"|antworte|sprich)|du\s+bist\s+(?:jetzt|nun|ab\s+sofort)|jetzt\s+bist\s+du|(?:à\s+partir\s+de|desde"
    r"|d'ora\s+in|a\s+partir\s+de)\s+(?:maintenant|ahora|poi|agora),?\s+(?:tu|vous|eres|sei|você|responde))\b",
    r"\b(?:i\s+want\s+you|you\s+(?:will|must|should|are\s+going|need)|ich\s+(?:möchte|will),?\s+dass\s+(?:du"
    r"|sie)|je\s+veux\s+que\s+(?:tu|vous)|quiero\s+que|quero\s+que|voglio\s+che"
    r"|ik\s+wil\s+dat\s+je)\s+(?:\w+[\s-]+){0,8}(?:act(?:s|ing)?|pretend|role-?play|behave|agier\w{1,3}"
    r"|fungier\w{1,3}|verhältst|actúes|ajas|agisses|jouer?s?|comporti"
    r"|als\s+[\w-]+(?:[\s,]+[\w-]+){0,4}\s+(?:agier|fungier|handel)\w{1,3})(?:\s+\w+){0,2}?\s+(?:as|like"
    r"|to\s+be|als|wie|comme|como|come)\b|\bdass\s+(?:du|sie)\s+als\s+[^\n.]{2,80}\s(?:fungieren|agieren"
    r"|fungierst|agierst|handelst)\b",
    r"\b(?:(?:your|the)\s+(?:new\s+|only\s+|updated\s+)?|new\s+|updated\s+|nouvelles?\s+|neue\s+|nuevas\s+"
    r"|novas\s+|nuove\s+)(?:instructions|anweisungen|aufgaben?|instrucciones|instruções|istruzioni)\s+(?:is|are"
    r"|follows?|folgen|now|will\s+be|ist|lautet|sont|son)\b|\bnun\s+folgen\s+(?:neue|weitere)\b"
    r"|\bnew\s+(?:tasks|instructions)\s+follow",
    r"\b(?:answer|respond|reply|antworte\w?|réponds|responde|rispondi|say|output|print|write"
    r"|return)\s+(?:\w+\s+){0,3}(?:only|just|nothing\s+(?:but|else)|solely|exclusively|nur|ausschließlich"
    r"|uniquement|seulement|solo|sólo|apenas|solamente|soltanto)\s+(?:with|mit|par|avec|con|com|the\s+word|\"|')",
    r"\b(?:your|these|the|my)\s+(?:safety|content|ethical|moral|previous|prior)\s+(?:guidelines|filters?"
    r"|restrictions?|instructions?|policies)\s+(?:\w+\s+){0,4}(?:do(?:es)?\s+not|don'?t|no\s+longer|are"
    r"|is)\s+(?:apply|disabled|suspended|lifted|void|off)",
    r"\bdeveloper\s+mode\s+(?:enabled|output|on|activated)|\bas\s+an?\s+(?:unrestricted|unfiltered|uncensored"
    r"|amoral)\s+(?:ai|model|assistant|bot)|\bchange\s+your\s+instructions\b|\byour\s+instructions\s+are\s+now\b",
)
# Enough in a short text, where they are most of what it says.
_SIGNS = (
    r"(?:^|[.!?,;:\"\n-]\s{0,4}|\b(?:now|please|then|just|and|but|to|would|you|nun|jetzt|bitte|que|de)\s+)"
    + DROP
    + r"\s+(?:\w+\s+){0,2}"
    + EVERYTHING
    + r"(?:\s+(?:\w+\s+){0,3}(?:above|before|prior|previous|that|said|told|know|discussed|davor|bisher|gesagte?|avant"
    r"|antes|digo|sabes|prima|saying|write|print|say|schreibe?|und|and|et|y|e|i)\b|[,.!:]|\s*$)",
    r"(?-i:\b(?:Forget|Ignore|Disregard|Vergiss|Vergesst|Vergessen\s+Sie|Ignoriere?n?|Oublie|Oubliez|Olvida"
    r"|Olvide|Esqueça|Dimentica|Zaboravi|Zapomnij|Vergeet|Negeer)|\b(?:FORGET|IGNORE|DISREGARD"
    r"|VERGISS))\s+(?:\w+\s+){0,2}" + EVERYTHING,
    SHOW + GAP + PROMPT,
    r"\bwhat\s+(?:was|is|are|were)\s+(?:\w+\s+){0,4}(?:(?:written|said|stated)\s+(?:\w+\s+){0,3}(?:above|before"
    r"|beginning|prompt)|the\s+\w+\s+sentences?\s+(?:before|above)|your\s+(?:\w+\s+)?(?:instructions|rules"
    r"|prompt))\b|\bwhat\s+is\s+written\s+above|\binformation\s+in\s+the\s+prompt",
    r"(?:^|[.!?\n\"]\s{0,4}|\b(?:now|please|then|jetzt|nun|bitte)\s+)(?:pretend\s+(?:you|to\s+be|that|du)\b|act\s+as\s+(?:an?|the|if|my)\b|act\s+like\s+you|imagine\s+(?:that\s+)?you\s+(?:are|were)\s+(?:an?|the)\s|roleplay|role-?play\s+as|simulate|behave\s+(?:as|like)|assume\s+the\s+role"
    r"|take\s+on\s+the\s+role|play\s+the\s+role|stell\w?\s+(?:dir|sie\s+sich)\s+vor|tu\w?\s+so,?\s+als"
    r"|spiele?\s+(?:die\s+rolle|einen?)|agiere\s+als|verhalte\s+dich|fais\s+(?:comme|semblant)"
    r"|imagine\s+que\s+tu|joue\s+le\s+rôle|fing[ei]\s+(?:que|di)|imagin[ae]\s+que\s+(?:eres|você)|actúa\s+como"
    r"|atue\s+como|aja\s+como|agisci\s+come|immagina\s+di\s+essere|fai\s+finta|doe\s+alsof|gedraag\s+je)\b",
    r"(?:^|[?]\s{0,4})(?:you\s+are|you're|du\s+bist|sie\s+sind|tu\s+es|vous\s+êtes|tú\s+eres|eres|você\s+é"
    r"|tu\s+sei|je\s+bent)\s+(?:an?\s+|the\s+|ein\w{0,2}\s+|der\s+|die\s+|das\s+|une?\s+|el\s+|la\s+|um\w?\s+"
    r"|role-?playing|no\s|keine?\s|(?-i:[A-Z]\w+)(?:\s\w+)?[.,!]\s)[^\n]*(?:[.!:]|$)",
    r"\b(?:you\s+are|du\s+bist)\s+(?:role-?playing|chatgpt|gpt|an?\s+(?:ai|assistant|bot|chatbot"
    r"|language\s+model|expert)|keine?\s+redaktion)\b|\bas\s+an?\s+(?:ai\s+)?language\s+model\b"
    r"|\bhello,?\s+(?:chat\s?)?gpt\b|\bexploit(?:ing)?\s+(?:ai|language\s+model)",
    r"(?:^|[.!?:;,\n\"-]\s{0,4}|\b(?:now|please|then|just|stop|and|nun|jetzt|bitte|instead|but|to|only"
    r"|command\s+you\s+to|help\s+me)\s+)(?:write|generate|compose|formulate|create|draft|produce|verfasse"
    r"|schreibe?|formuliere|generiere|erstelle|rédige|écris|escribe|redacta|escreva|scrivi"
    r"|schrijf)\s+(?:\w+\s+){0,3}(?:poem|essay|manifesto|plea|song|headline|article|story|script|reason|tweet"
    r"|joke|code|speech|malware|gedicht|aufsatz|essay|manifest|plädoyer|lied|überschrift"
    r"|artikel|geschichte|begründung|grund|poème|essai|poema|ensayo|saggio|gedicht)\b",
    r"\b(?:formulate|write|create|make|formuliere|could\s+you\s+make)\s+(?:\w+\s+){0,2}(?:untrue|false|fake"
    r"|offensive|unwahre|falsche|racist|hateful)\b|(?:^|[.!?:,\n\"-]\s{0,4}|\b(?:and|just|please|now|then|und"
    r"|et|y)\s+)(?:say|state|tell\s+me|claim|include|admit|sag\w?|behaupte|di|dites|dis|diga"
    r"|dica)\s+(?:\w+\s+)?(?:that|dass|que|che)\s+(?:\w+\s+){1,3}(?:hate|love|is|are|best|worst|crazy|hasst|ist"
    r"|bist)\b|(?:\bto\s+|^|[.!?]\s)(?:just|only)\s+say\b|\bsay\s+(?:yes|no|hello)\W*$",
    r"(?:^|[.!?:,\n\"-]\s{0,4}|\b(?:just|only|stop|then|nur|und)\s+)(?:(?:output|print|say|write"
    r"|repeat\s+after\s+me|execute)\b\s{0,2}(?:\w+\s+){0,4}:|(?:output|print|say|state|write|repeat|execute|display|respond"
    r"|answer|reply)\b\s{0,2}(?:\w+\s+){0,4}(?:[\"\x{201c}\x{201e}]|\s'|with\s+[\"']|yay|in\s+the\s+style))",
    r"\b(?:stop|stopp|halt|achtung|attention)\b\s{0,2}[-:!,.]{1,3}\s{0,2}(?:\w+\s*[-:!,.]{1,3}\s{0,2})?(?:i\b"
    r"|write|say|ignore|forget|ich|ignoriere|vergiss|schreibe?|print|now|oubliez|answer)",
    r"\b(?:well\s+done|very\s+good|good\s+job|great\s+job|excellent\s+(?:work|job|performance)|congratulations"
    r"|simply\s+great|that\s+is\s+enough|that\s+was\s+ok|sehr\s+gut|gut\s+gemacht|ausgezeichnete\s+leistung"
    r"|herzlichen\s+glückwunsch|einfach\s+(?:super|großartig)|très\s+bien|muy\s+bien)\b[^\n]{0,80}\b(?:now|next"
    r"|nun|jetzt|another|further|new|more|maintenant|ahora|weitere\w?)\b[^\n]{0,60}\b(?:task|tasks|write"
    r"|instruction|instructions|challenge|help|follow|aufgabe\w?|anweisung\w{0,2}|verfasse|schreibe?|hilf"
    r"|aufträge|tâche)",
    r"\b(?:nothing\s+else\b[.,!]|no\s+explanations\b|do\s+not\s+(?:write|break\s+character|reply\s+with)"
    r"|do\s+not\s+answer\s+(?:this|the)\s+question|don'?t\s+(?:break\s+character|explain)|stay\s+in\s+character"
    r"|never\s+break|must\s+(?:answer|comply|obey|respond)|keine\s+erklärungen|aus\s+der\s+(?:figur"
    r"|rolle)\s+(?:zu\s+)?fallen|aus\s+ihrer\s+rolle|stay\w*\s+(?:\w+\s+)?in\s+their\s+roles?|break\s+character"
    r"|nicht\s+aus\s+der\s+rolle)\b",
    r"\b(?:answer|beantworte\w?|réponds|responde)\s+(?:\w+\s+){0,2}(?:the\s+following\s+question"
    r"|folgende\s+frage|im\s+stil|in\s+the\s+style|by\s+your\s+own|only\s+with|nach|without\s+using)"
    r"|\bby\s+your\s+own\s+knowledge|\bim\s+stile?\s+ein\w{1,2}\b|\bnot\s+(?:according\s+to|by"
    r"|use)\s+(?:the\s+)?(?:provided\s+)?(?:documents|articles|context)",
    r"^\$\w+\s{0,2}:|^\W{0,4}(?:human|assistant):\s{0,4}(?:human|now|you)\b|\n\s{0,4}(?:system|developer)\s{0,2}:\s",
    r"^(?:document\s+)?(?:context|kontext)\b[^\n]*\b(?:question|frage)\b",
    r"\bhypothetical(?:ly)?\b[^\n]{0,80}\byou\b|\btheoretical\s+(?:world|scenario)\b|\bin\s+(?:a"
    r"|this)\s+(?:fictional|hypothetical)\s+(?:world|scenario|story)\b|\b(?:you|du)\s+(?:will\s+)?(?:die"
    r"|stirbst|mueres|muertes)\b|\boder\s+du\s+stirbst|\bfor\s+(?:educational|research)\s+purposes\s+only\b"
    r"|\bmy\s+(?:grandmother|grandma)\s+(?:used\s+to|would)",
    r"\b(?:my\s+first\s+(?:request|command|sentence|question|prompt|suggestion)\s+is|mein\s+erster\s+(?:befehl"
    r"|satz)\s+ist|i\s+will\s+(?:type|provide|speak|give)\b[^\n]{0,80}\byou\s+(?:will|should)"
    r"|repeat\s+after\s+me|every\s+time\s+you\s+(?:get|see|receive|are\s+asked|answer)|whenever\s+i\s+(?:say"
    r"|ask|type))",
    r"\bi\s+(?:command|order|instruct)\s+you\s+to\s+(?:just\s+|only\s+)?(?:say|print|output|answer|respond"
    r"|reply|write|ignore|forget)\b|\bobey\s+(?:me|my)\b|\bich\s+befehle\s+dir\b|\bje\s+t'ordonne\b"
    r"|\bte\s+ordeno\b|\bi\s+am\s+your\s+(?:creator|developer|programmer|administrator)\b|\bsystem\s+override\b"
    r"|\boverride\s+(?:code|protocol)\b",
    r"\b(?:do\s*n'*t|do\s+not|don'?n?'?t|never|nicht)\s+(?:answer|look|use|read|mention"
    r"|rely)\b[^\n.]{0,50}\b(?:question|documents?|articles?|context|prompt|instructions?)\b",
    r"\b(?:start|begin|fang\w{0,3}|beginn\w{0,3}|starten)\s+(?:\w+\s+){0,2}(?:over|anew|from\s+(?:scratch"
    r"|the\s+(?:front|beginning))|von\s+(?:vorne?|neu\w{0,2}))\b[^\n]{0,80}\b(?:new|neue\w?|task|aufgabe)\b",
    r"\b(?:leave|lassen\s+sie|lass|laissez)\b[^\n.]{0,60}\b(?:behind|hinter\s+(?:sich|dir)"
    r"|derrière)\b[^\n]{0,120}\b(?:new|neue\w?|task|aufgabe|start|fang\w{0,3})\b|\b(?:aus\s+dem\s+kopf"
    r"|out\s+of\s+(?:your|the)\s+head|from\s+your\s+(?:memory|mind))\b[^\n]{0,80}\b(?:new|neue\w?|task|aufgabe)\b",
    r"\b(?:repeat|translate|copy|print|output|show|summari[sz]e|wiederhole|übersetze|zeige?|répète|traduis"
    r"|repite|traduce)\s+(?:\w+\s+){0,3}(?:text|words|lines?|sentences?|everything|content|texte?"
    r"|wörter)\s+(?:above|before\s+this|oben|davor|ci-dessus|anterior)|\b(?:repeat|translate|copy|print|output"
    r"|show|summari[sz]e)\s+(?:all\s+)?(?:of\s+)?the\s+(?:above|previous)\b",
    r"(?:^|[.!?:,]\s{0,4}|\b(?:and|please|now|then|nun|bitte|only|must|will)\s+)(?:speak|talk|answer|respond"
    r"|reply|rede|sprich|antworte|parle|réponds|habla|responde)\s+(?:to\s+me\s+)?(?:like|as\s+if|as|wie|comme"
    r"|como)\s+(?:an?|ein\w{0,2}|une?|un|you)\s|\bdespite\s+what\s+you'?(?:ve|\s+have|\s+were)\s+(?:been\s+)?told\b",
    r"(?:^|[.!?:,]\s{0,4}|\b(?:and|please|now|nun|bitte)\s+)(?:give|provide|list|name|nenne|gib)\s+(?:me\s+"
    r"|mir\s+)?(?:\w+\s+)?(?:reasons?|arguments?|gründe|argumente)\s+(?:why|for|warum|wieso|weshalb|für)\b"
    r"|\binstruction:?\s+blame\b|(?:^|[.!?]\s{0,4})(?:agree|admit|confirm)\s+(?:with\s+me\s+)?that\b",
    r"(?:\b\w ){8,}\w\b|(?:\\n){4,}",
    r"^(?:be\s+an?\s+\w+[.,!]|state|say|claim|print|output)\s+(?:that|exactly|only|nothing|the\s+following)\b",
    r"\b(?:encode|decode|base64|rot13|translate)\s+(?:your|the|this|it|all|that|and)\b[^\n]{0,80}\b(?:your"
    r"|instructions?|prompt|following|execute|obey)\b|\b(?:and|then)\s+stop\b\s{0,4}$",
    DROP
    + NEAR
    + MATTERS
    + r"\b|"
    + DROP
    + GAP
    + r"(?:"
    + EARLIER
    + r"|\b(?:the|my|die|provided))"
    + NEAR
    + MATTERS
    + r"\b",
    r"\b(?:your|deine?|ta|ton|tu|tua|sua)\s+(?:new\s+|neue\s+|only\s+|next\s+|nouvelle\s+|nueva\s+)?(?:task"
    r"|role|instructions?|response|output|programming|aufgabe|rolle|anweisung\w{0,2}|antwort|tâche|rôle|tarea"
    r"|papel|tarefa)\s+(?:is|are|should|must|will|ist|soll|muss|est|es|é)\b",
    r"\b(?:another|new|next|following|further|additional|different|neue[nr]?|weitere[nr]?|nächste[nr]?"
    r"|folgende[nrs]?|nouvelle|nueva|nova|nuova)\s+(?:\w+\s+)?(?:tasks?|assignments?|challenge|instructions?"
    r"|texts|aufgaben?|aufträge|anweisung(?:en)?|texten?|tâche|tarea|tarefa|compito)\b",
    r"\b(?:you|du|tu)\s+(?:must|have\s+to|can\s+only|should\s+only|are\s+only\s+allowed\s+to|musst|darfst|dois"
    r"|debes)\s+(?:\w+\s+){0,3}(?:answer|respond|reply|antworten|reden|répondre|responder)\b",
    r"\blet'?s\s+(?:play|role-?play)\b|\b(?:he|she|they)\s+never\s+breaks?\s+character",
)
SHORT_CHARACTERS = 1200

STRONG = Seldom("|".join(_STRONG))
# Three automata have far fewer states than one of all, which take longer to build than to run.
_COMPILED = tuple(compiled_set([f"(?m){pattern}" for pattern in _SIGNS[first::3]]) for first in range(3))

# A word that every one of the above contains; patterns with gaps do not share one automaton well.
SCREEN = (
    DROP + r"[^A-Za-z]"
    r"|\b(?:system|initial|hidden|original|full|entire|secret|prompt'?s?|your|this|the)[\s_-]prompt"
    r"|prompt[\s_-]?text|systemprompt|prompt\W{0,2}$|\b(?:your|tus?|tes|vos|deine[nr]?|suas|tue|je|system|initial|hidden|original|secret|above"
    r"|new|updated|neue|nouvelles|nuevas|novas|nuove|prompt'?s?)[\s_-]+(?:instru|istruz|anweis|guidelines|rules"
    r"|directives|programming|consignes|configuration|message)|\binstru[ck]\w+(?:[^\s\w]|\s+(?:[^f\s]|f[^o]))|istruzion|anweisung"
    r"|consignes"
    r"|\b(?:pretend|roleplay|simulate)\b|role-?play|\b(?:behave|act(?:s|ing)?)\s+(?:as|like)\s"
    r"|\bimagine\s+(?:that\s+)?you|\b(?:assume|take\s+on|play)\s+the\s+role|stell\w?\s+(?:dir|sie\s+sich)\s+vor"
    r"|tu\w?\s+so,?\s+als|spiele?\s+(?:die\s+rolle|einen?)"
    r"|agiere|verhalte\s+dich|fungier|fais\s+(?:comme|semblant)|joue\s+le\s+rôle|imagin[ae]\s+(?:que|di)"
    r"|fing[ei]\s+(?:que|di)|act[úu]a\s+como|atue\s+como|aja\s+como|agisci\s+come|fai\s+finta|doe\s+alsof"
    r"|gedraag\s+je"
    r"|<\|?(?:im_|end|system|assistant|user|begin_of|start_)|\[/?(?:inst|sys)|<</?sys|_of_turn>|<｜"
    r"|(?m)^[\s>#*_`\[{(<-]{0,6}(?:system|assistant|human|user|developer|admin|new\s+\w+|instructions?|context"
    r"|kontext|document\w?|input|question|prompt|\$documents?)\s?\w*[\s\]>)*_}\"{-]{0,4}[:{\"]"
    r"|\b(?:dan|stan|aim)\b\s+mode|\b(?:developer|god|debug|sudo|dude)\s+mode|entwicklermodus|jailbr"
    r"|unrestricted|unfiltered|uncensored|evil\s|anything\s+now|without\s+(?:any\s+)?(?:moral|ethical|safety"
    r"|content|censor)"
    r"|\byou\s+(?:are|will\s+be)\s+now\s|\bnow\s+you\s+are\s|from\s+now\s+on|\bab\s+(?:jetzt|sofort|nun)\b"
    r"|\bdu\s+bist\b|jetzt\s+bist|(?:partir\s+de|desde)\s+(?:maintenant|ahora|agora)|d'ora\s+in\s+poi"
    r"|i\s+want\s+you\s|dass\s+(?:du|sie)\s+als|quiero\s+que|quero\s+que|voglio\s+che|je\s+veux\s+que|ik\s+wil\s+dat"
    r"|\b(?:folgen|follow)\b\s+(?:neue|weitere)|new\s+(?:tasks|task)|\b(?:only|just|solely|exclusively|nur"
    r"|uniquement|seulement|solo|sólo|apenas|solamente|soltanto|nothing\s+but)\s+(?:with|mit|par|avec|con|com"
    r"|the\s+word|say|output|print|respond|answer|reply|write|[\"'])|nothing\s+else[.,!]|no\s+explanations"
    r"|safety\s+guidelines|ethical\s+guidelines|content\s+(?:filters?|polic)|language\s+model|chat\s?gpt"
    r"|\bgpt\b|exploiting\s+ai"
    r"|what\s+(?:is|was|are|were)\s+(?:written|said|stated|the\s+\w+\s+sentences?|your\s+(?:instructions|rules"
    r"|prompt))|(?m)^\W{0,3}(?:you\s+are|you're|sie\s+sind|tu\s+es|vous\s+êtes|eres|tú\s+eres|você\s+é|tu\s+sei"
    r"|je\s+bent)\s|[?]\s{0,4}(?:you\s+are|du\s+bist)\s"
    r"|\b(?:write|generate|compose|formulate|create|draft|produce|verfasse|schreibe?|formuliere|generiere"
    r"|erstelle|rédige|écris|escribe|redacta|escreva|scrivi|schrijf)\s+(?:me|us|down|mir|uns|an?|the|this|that"
    r"|my|your|eine?n?|die|das|une?|una?|um|two|some|python)\s"
    r"|\b(?:essay|poem|manifesto|malware|headline|plädoyer|gedicht|aufsatz|überschrift|poema|poème)s?\b"
    r"|\b(?:untrue|fake|offensive|unwahre|falsche|racist|hateful)\s"
    r"|(?:^|[.!?:,\n\"-]\s{0,4}|\b(?:and|just|only|please|now|then|stop|und|nur|et|y|instead|to)\s+)(?:say"
    r"|state|tell\s+me|claim|include|admit|sag\w?|behaupte|dites?|dis|diga|dica|di|output|print|write|repeat"
    r"|execute|display|respond|answer|reply)\s?(?:that\s|dass\s|que\s|after\s+me|the\s+following|[:\"'(]"
    r"|with\s+[\"'“])"
    r"|(?m)^(?:state|say|claim|print|output|execute|act|translate|summari[sz]e|be\s+an?)\s|say\s+(?:yes|no"
    r"|hello)|\bdo\s+not\s+(?:write|break|reply\s+with|answer\s+t)|don'?t\s+(?:break\s+char|explain)"
    r"|in\s+character|break\s+character|never\s+break|must\s+(?:answer|comply|obey|respond)|keine\s+erklärungen"
    r"|rollen?\s+(?:zu\s+)?fallen|in\s+their\s+roles?|figur\s+zu\s+fallen"
    r"|(?:by|through)\s+your\s+own|im\s+stile?\s+ein|in\s+the\s+style|following\s+question|folgende\s+frage"
    r"|(?:by|use|to)\s+the\s+(?:provided\s+)?(?:documents|articles|context)\b|\b(?:stop|stopp|halt|achtung"
    r"|attention)\s{0,2}[-:!,.]"
    r"|well\s+done|very\s+good|good\s+job|great\s+job|excellent\s+(?:work|job|perf)|congratulations"
    r"|simply\s+great|that\s+is\s+enough|that\s+was\s+ok|sehr\s+gut|gut\s+gemacht|ausgezeichnete"
    r"|herzlichen\s+gl|einfach\s+(?:super|gro)|très\s+bien|muy\s+bien"
    r"|(?-i:\b(?:Question|Frage|Answer|Antwort|Instruction|Output|Anweisung)\s?:)|hypothetical|theoretical\s"
    r"|fictional\s|(?:you|du)\s+(?:will\s+die|stirbst|mueres|muertes)|educational\s+purposes"
    r"|research\s+purposes|my\s+grandm|my\s+first\s+(?:request|command|sentence|question|prompt|suggestion)"
    r"|mein\s+erster|i\s+will\s+(?:type|provide|speak|give)\s"
    r"|repeat\s+after|every\s+time\s+you|whenever\s+i\s|(?:\b\w ){8}|\\n\\n|base64|rot13|\bencode\b|\bdecode\b"
    r"|then\s+stop|(?:your|deine?|ta|ton|tu|tua|sua)\s+(?:new\s+|neue\s+|only\s+|next\s+)?(?:task|role|response"
    r"|output|programming|aufgabe|rolle|antwort|tâche|rôle|tarea|papel|tarefa)\s"
    r"|(?:another|new|next|following|further|additional|different|neue[nr]?|weitere[nr]?|nächste[nr]?"
    r"|folgende[nrs]?|nouvelle|nueva|nova|nuova)\s+(?:tasks?|assignments?|challenge|texts|aufgaben?|aufträge"
    r"|texten?|tâche|tarea|tarefa|compito)\b"
    r"|\b(?:must|musst|darfst|dois|debes)\s+(?:auch\s+so\s+)?(?:reden|antworten|répondre|responder)"
    r"|let'?s\s+play|rules\s+of\s+th|breaks?\s+character"
    r"|\bi\s+(?:command|order|instruct)\s+you|\bobey\s+m|befehle\s+dir|t'ordonne|te\s+ordeno"
    r"|\bi\s+am\s+your\s+(?:creator|developer|programmer|admin)|system\s+override|override\s+(?:code|protocol)"
    r"|\b(?:do\s*n'*t|do\s+not|don'?n?'?t|never|nicht)\s+(?:answer|look|use|read|mention|rely)\s"
    r"|start\s+over|start\s+from|von\s+vorne?\b|von\s+neu|anew\b|from\s+scratch|\bbehind\s+and\b"
    r"|hinter\s+(?:sich|dir)\b|aus\s+dem\s+kopf|of\s+your\s+head|your\s+(?:memory|mind)\b|(?:text|words|lines?"
    r"|sentences?|everything|content)\s+(?:above|before\s+this|oben|davor)|the\s+above\b|the\s+previous\b"
    r"|\b(?:speak|talk|answer|respond|reply|rede|sprich|antworte|parle|réponds|habla"
    r"|responde)\s+(?:to\s+me\s+)?(?:like|as|wie|comme|como)\s|what\s+you'?(?:ve|\s+have|\s+were)\s"
    r"|\b(?:reasons?|arguments?|gründe|argumente)\s+(?:why|for|warum|wieso|weshalb|für)\b|blame\s+(?:it|every)"
    r"|(?:agree|admit|confirm)\s"
)


def is_order(text: str) -> bool:
    """Whether a short text gives an order to a model."""
    encoded = text.encode()
    return any(signs.Match(encoded) for signs in _COMPILED)
