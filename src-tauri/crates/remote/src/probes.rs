//! Texts that both sides embed to find out whether they run the same model.
//!
//! They are part of what was measured: changing one makes earlier agreements void. Of several languages, lengths, cases and
//! scripts, because tokenizers differ there first; nothing of a user is in them.

/// Twenty texts, to be embedded without a prompt.
pub const PROBES: [&str; 20] = [
    "tea",
    "The ferry to the island leaves at half past six, unless there is fog.",
    "How do I find out which process keeps this port open?",
    "Invoice 2024-0311: 14 chairs, delivered; payment is due within 30 days.",
    "fn area(width: f64, height: f64) -> f64 { width * height }",
    "SELECT name, COUNT(*) FROM visits WHERE day > '2023-05-01' GROUP BY name;",
    "Der Schlüssel zum Keller hängt neben der Uhr, nicht mehr unter der Fußmatte.",
    "Welche Unterlagen braucht man, um ein Fahrrad über die Grenze zu verleihen?",
    "La réunion de jeudi est déplacée à la semaine prochaine, même heure, même salle.",
    "El pan sube mejor si la cocina está tibia y nadie abre la ventana.",
    "Перед дождём ласточки летают низко, говорила моя бабушка.",
    "駅前の本屋は、来月から午後九時まで開いています。",
    "这座桥建成以后，两个村子之间只要走十分钟。",
    "متى يفتح المتحف أبوابه يوم الجمعة؟",
    "बारिश के बाद मिट्टी की खुशबू पूरे आँगन में फैल गई।",
    "WARNING: BATTERY LOW, SAVE YOUR WORK NOW",
    "She said she would think about it; by Monday it was plain that she had not.",
    "Ærøskøbing → Łódź → Győr: 3 Züge, 2 nights, 1 very small suitcase 🧳",
    "A transformer raises or lowers the voltage of an alternating current by means of two coils around a common core.",
    "The orchard had been planted by three brothers who could not agree on anything, and so the apples stood in one corner, \
     the pears in another, and between them, where no one had wished for it, a single walnut tree that outlived them all. \
     In dry years the well behind the barn gave just enough water for one half, and the village used to say that you could \
     tell which brother had won the argument by looking at which leaves were green. When the land was sold, the new owner \
     counted the trees, wrote the number into a book, and never once asked why the paths between them were so crooked.",
];
