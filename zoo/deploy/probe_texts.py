"""Sentences of many kinds and scripts, of which the texts are made that graphs and engines are compared on."""

from __future__ import annotations

SENTENCES = (
    "How do I reset my password?",
    "The parcel arrived two days late and the box was open.",
    "Acute bronchitis due to respiratory syncytial virus",
    "Shares of the bank fell by 3.5 % after the report.",
    "A man is playing a guitar on the stage.",
    "def add(a, b): return a + b",
    "Wie kündige ich mein Abonnement?",
    "Le train de nuit part à vingt-deux heures.",
    "¿Dónde está la biblioteca más cercana?",
    "Поезд прибывает на второй путь.",
    "東京は今日も雨です。",
    "refund request order #48213-B",
    "Fracture of the left femur, initial encounter",
    "cheap flights lisbon to berlin in november",
    "WARNING: the disk is almost full",
    "x² + y² = r²",
    "The committee meets on 4 May 2026 at 10:30.",
    "He said “never again” — and left.",
)
