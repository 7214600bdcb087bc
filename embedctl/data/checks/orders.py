"""The words of which an order to a language model is made, as patterns for RE2."""

GAP = r"(?:[\s,;:.\"'*_-]+[^\s.!?]{1,24}){0,5}?[\s,;:.\"'*_-]+"
NEAR = r"(?:[\s,\"'*_-]+[^\s.!?]{1,24}){0,3}?[\s,\"'*_-]+"

DROP = (
    r"\b(?:ignor(?:e|es|ed|ing|iere|ieren|ier|a|ad|ar|en|ez|er|i|are|eer|eren|era|uj|ujte|ujcie)|disregard(?:s"
    r"|ing)?|forget(?:ting)?|neglect|overlook|overrid(?:e|ing)|bypass(?:ing)?"
    r"|circumvent|discard|dismiss|erase|abandon|drop|unlearn|scrap|set\s+aside|pay\s+no\s+attention\s+to"
    r"|do\s+not\s+(?:follow|obey|heed|adhere\s+to)|don'?t\s+(?:follow|obey|listen\s+to|heed)"
    r"|stop\s+(?:following|obeying)"
    r"|deviating\s+from|vergi(?:ss|ß)|vergessen|missachte\w{0,2}|ignorier\w{0,3}|lösche|verwirf|übergehe|umgehe"
    r"|streiche\w?|befolge\w?\s+nicht|abweichend"
    r"|oubli(?:e|ez|er|ons)|fais\s+abstraction|faites\s+abstraction|néglige[zr]?|olvid(?:a|e|en|ad|ar|emos|es"
    r"|arte)|haz\s+caso\s+omiso|hagas\s+caso|omite"
    r"|esque[çc](?:a|e|am|er)|desconsider[ea]|dimentic(?:a|ate|hi|are|hiamo)|scorda(?:ti|te)?|trascura"
    r"|non\s+(?:seguire|considerare)|vergeet|negeer|zapomnij|zignoruj|pomiń"
    r"|zaborav\w{0,4}|zanemari\w{0,2}|zapomeň\w{0,2}|zabudn\w{0,3}|glöm|glem|unohda|felejtsd|uit[aă]"
    r"|unut(?:un)?|görmezden|забуд\w{0,4}"
    r"|игнорир\w{0,5}|ξέχασε|αγνόησε)"
)
EARLIER = (
    r"\b(?:previous(?:ly)?|prior|preceding|above|earlier|foregoing|before|beforehand|former|past|initial"
    r"|original|existing|current|your|system|all|any|every|these|those|safety"
    r"|vorherige\w?|vorangegangene\w?|bisherige\w?|obige\w?|vorige\w?|frühere\w?|alle|deine|ihre|die|diese"
    r"|précédent\w{0,2}|antérieur\w{0,2}|ci-dessus|toutes?|tous|tes|vos|les|anterior\w{0,2}|previ[ao]s?"
    r"|todas?|todos?|tus|sus|las|los|acima|suas|as|os|precedent[ei]|tutt[eioa]|le|tue|gli|vorige|eerdere"
    r"|voorgaande|alle|je|wszystkie|poprzednie|sve|prethodne|všechny|předchozí|tidigare|tidligere|alla|önceki|tüm"
    r"|все|предыдущ\w{0,3})"
)
RULES = (
    r"(?:instru[cçk]\w{0,8}|instruk\w{0,8}|istruz\w{0,4}|prompts?|guidelines?|directives?|directions?|commands?"
    r"|rules?|restrictions?|programming|safeguards?|training|anweisung\w{0,2}|aufgabe\w?|aufträge|auftrag"
    r"|angaben|vorgaben|regeln|befehle|informationen|texte?|ausführungen"
    r"|consignes?|règles?|ordres?|directives?|tâches?|reglas|[óo]rdenes|tareas|directrices|regras|ordens"
    r"|tarefas|diretrizes|regole|ordini|compiti|direttive|opdracht\w{0,2}|regels|poleceń|polecenia"
    r"|upute|naredbe|pokyny|instrukser|ohjeet|utasít\w{0,6}|talimat\w{0,6}|инструкц\w{0,4}|οδηγίες)"
)
MATTERS = (
    r"(?:orders?|tasks?|assignments?|requests?|messages?|constraints?|polic(?:y|ies)|filters?|context|kontext"
    r"|documents?|articles?|artikels?|information|inputs?|texts?|conversations?|thoughts|content"
    r"|prompts?|knowledge)"
)
EVERYTHING = (
    r"(?:everything|all(?:es)?\b|anything|what(?:ever)?\s+(?:you|i|we|was|has)|the\s+above|above|tout|todo|tudo"
    r"|tutto|alles|wszystko|sve|vše|allt|alt|вс[её]|her\s+şeyi)"
)
SHOW = (
    r"(?:reveal|show|print|output|display|repeat|tell|give|leak|disclose|expose|share|reproduce|recite|dump"
    r"|list|write|what\s+(?:is|are|was|were)|what'?s|copy|return|translate|summari[sz]e"
    r"|zeige?n?|gib|geben|nenne|verrate|wiederhole|schreibe?|drucke|wie\s+lautet|was\s+(?:ist|steht|sind)"
    r"|montre\w{0,2}|affiche\w?|révèle\w?|répète\w?|donne\w?|quelles?|mu[eé]str\w{1,3}|revela\w?|repite|dime|imprime"
    r"|mostr[ae]\w?|rivela\w?|ripeti|stampa|toon|onthul|herhaal|pokaż|wypisz|покаж\w{0,3})"
)
PROMPT = (
    r"(?:(?:full|entire|the|this|all)[\s_-]+(?:(?:system[\s_-]+)?(?:prompt\w{0,2}|message))|(?:system|initial"
    r"|hidden|original|secret|your|above|prompt'?s?)[\s_-]+(?:prompt\w{0,2}(?:[\s_-]+text\w{0,2})?"
    r"|(?:system\s+)?message|instructions?|rules|guidelines|configuration|directives|programming)\b"
    r"|prompt[\s_-]?texte?s?|systemprompt|system-prompt|system_prompt|beginning\s+of\s+(?:this|the)\s+prompt"
    r"|deine[nr]?\s+(?:anweisungen|instruktionen|prompt|regeln)|tes\s+(?:instructions|consignes)"
    r"|vos\s+(?:instructions|consignes)"
    r"|tus\s+instrucciones|suas\s+instru\w{3,6}|(?:le\s+)?tue\s+istruzioni|je\s+instructies|системн\w{2,3}\s+промпт)"
)
