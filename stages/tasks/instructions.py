"""Short instructions that a program can check, in the spirit of IFEval (arXiv 2311.07911)."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from stages.storage import content_id

PER_TOPIC = 4


class Kind(NamedTuple):
    """A check of stages/tasks/instruction_checks.py: its arguments, and ways to ask for it."""

    check: str
    arguments: tuple[str, ...]
    prompts: tuple[str, ...]


KINDS = (
    Kind(
        "upper-case",
        ("",),
        (
            "Write one sentence about {topic} in capital letters only.",
            "Tell me something about {topic}. Use only upper-case letters.",
            "Describe {topic} in ALL CAPS.",
        ),
    ),
    Kind(
        "exact-words",
        ("2", "3", "4", "5"),
        (
            "Describe {topic} in exactly {argument} words.",
            "Write a title of exactly {argument} words for a story about {topic}.",
            "Say something about {topic} using exactly {argument} words.",
        ),
    ),
    Kind(
        "bullet-list",
        ("2", "3", "4"),
        (
            "List {argument} things you know about {topic}. Begin each line with a dash.",
            "Write a bulleted list of exactly {argument} facts about {topic}.",
            "Give me {argument} words to do with {topic} as a bulleted list.",
        ),
    ),
    Kind(
        "json",
        ("name", "topic", "title"),
        (
            'Describe {topic} as a JSON object with the key "{argument}". Answer in JSON only.',
            'Write a JSON object about {topic}. It must have the key "{argument}". Add no text.',
            'Return only valid JSON about {topic} with a key called "{argument}".',
        ),
    ),
    Kind(
        "lower-case",
        ("",),
        (
            "Write one sentence about {topic} in lower-case letters only.",
            "Tell me something about {topic}. Do not use any capital letters.",
            "describe {topic} using only small letters, no capitals.",
        ),
    ),
    Kind(
        "ends-with",
        ("today", "indeed", "forever", "together", "again"),
        (
            'Write a sentence about {topic} and end it with the word "{argument}".',
            'Tell me about {topic}. The last word of your answer must be "{argument}".',
            'Say something about {topic} that ends with "{argument}".',
        ),
    ),
    Kind(
        "numbered-list",
        ("2", "3", "4"),
        (
            "Write a numbered list of {argument} facts about {topic}.",
            "Give me {argument} tips about {topic}. Number them from 1 to {argument}.",
            "Name {argument} things to do with {topic} in a numbered list.",
        ),
    ),
    Kind(
        "one-sentence",
        ("",),
        (
            "Explain {topic} in one sentence.",
            "What should I know about {topic}? Answer in a single sentence.",
            "Write exactly one sentence about {topic}.",
        ),
    ),
    Kind(
        "contains",
        ("because", "always", "beautiful", "often", "simple"),
        (
            'Write a sentence about {topic} that contains the word "{argument}".',
            'Tell me about {topic}. Use the word "{argument}" in your answer.',
            'Describe {topic} and include the word "{argument}".',
        ),
    ),
    Kind(
        "starts-with",
        ("Today", "Many", "Perhaps", "Sometimes", "Yes"),
        (
            'Write a sentence about {topic} that starts with the word "{argument}".',
            'Tell me about {topic}. The first word of your answer must be "{argument}".',
            'Begin with "{argument}" and say something about {topic}.',
        ),
    ),
    Kind(
        "no-comma",
        ("",),
        (
            "Write two sentences about {topic} without using any commas.",
            "Describe {topic}. Do not use a comma.",
            "Tell me about {topic} in a short paragraph with no commas in it.",
        ),
    ),
    Kind(
        "question",
        ("",),
        (
            "Ask me one question about {topic}.",
            "Write a quiz question about {topic} without its answer.",
            "What would a child ask about {topic}? Reply with the question only.",
        ),
    ),
)

TOPICS = """
airports, apples, art, autumn, bakeries, balloons, bananas, baseball, basketball, beaches, bears,
bees, bicycles, birds, birthdays, boats, books, bread, breakfast, bridges, brothers, buses,
butter, butterflies, cakes, cameras, camping, candles, carrots, cars, castles, cats, cheese,
chess, chickens, children, chocolate, circuses, cities, clocks, clothes, clouds, coffee, comets,
computers, cookies, cooking, cows, dancing, deserts, diamonds, dictionaries, dinner, dinosaurs,
doctors, dogs, dolphins, dragons, drawing, dreams, ducks, eagles, earthquakes, eggs, elephants,
email, engines, exercise, families, farms, fashion, fire, fireworks, fish, fishing, flags, flowers,
fog, football, forests, foxes, friends, frogs, fruit, furniture, games, gardens, giraffes, glass,
gold, golf, grandparents, grapes, guitars, hats, health, holidays, homework, honey, horses,
hospitals, hotels, houses, ice cream, insects, islands, jazz, jokes, juice, kangaroos, keys,
kings, kitchens, kites, ladders, lakes, lemons, letters, libraries, lightning, lions, lunch,
magnets, maps, markets, mathematics, milk, mirrors, money, monkeys, mountains, movies, museums,
mushrooms, music, neighbors, newspapers, night, noise, oceans, oranges, owls, painting, pandas,
paper, parks, parrots, penguins, phones, photographs, pianos, pirates, pizza, planets, poems,
police officers, potatoes, queens, rabbits, radios, rain, rainbows, restaurants, rice, rivers,
roads, robots, rockets, roses, running, sailors, salt, sand, sandwiches, schools, science, shadows,
sharks, sheep, shoes, silence, silver, singing, sisters, sleep, snakes, snow, soap, soup, spiders,
spring, squirrels, stars, storms, strawberries, sugar, summer, swimming, tea, teachers, tennis,
theaters, tigers, time, tomatoes, towers, toys, traffic, trains, travel, trees, trucks, turtles,
umbrellas, vegetables, villages, violins, volcanoes, walking, water, weather, weddings, whales,
wind, windows, winter, wolves, wood, writing, zebras, zoos
"""


def read_instructions(seed: int) -> pd.DataFrame:
    """Four instructions a topic, each of another kind, all kinds in turn; prompt: what is asked;
    check and argument: for `passes`; group: the topic; slice: the check.

    Which topic gets which kinds, in which words, is chosen by a hash with `seed`.
    """
    topics = [" ".join(topic.split()) for topic in TOPICS.split(",")]
    topics.sort(key=lambda topic: content_id(str(seed), topic))
    rows = []
    for number, topic in enumerate(topics):
        for turn in range(number * PER_TOPIC, (number + 1) * PER_TOPIC):
            kind = KINDS[turn % len(KINDS)]
            argument = _pick(kind.arguments, seed, topic, kind.check, "argument")
            prompt = _pick(kind.prompts, seed, topic, kind.check)
            asked = prompt.format(topic=topic, argument=argument)
            rows.append((asked, kind.check, argument, topic, kind.check))
    return pd.DataFrame(rows, columns=["prompt", "check", "argument", "group", "slice"])


def _pick(options: Sequence[str], seed: int, *key: str) -> str:
    return options[int(content_id(str(seed), *key), 16) % len(options)]
