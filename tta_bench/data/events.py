"""SynthCaps' event classes: how each is called in captions, which attributes it has, how it sounds, what AudioSet calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tta_bench.data.sounds import machines, nature, struck, tonal
from tta_bench.data.sounds.dsp import Array

Sound = Callable[[float, float, int, np.random.Generator], Array]


@dataclass(frozen=True)
class EventClass:
    """names: noun phrases without article, the first one canonical. verbs: what a caption may say that it does, in agreement with the names.

    pitched, paced: whether captions may call it low or high, slow or fast. paces: the words for slow and fast. audioset: display names
    of AudioSet classes that a listener would accept. bare: whether its names take no article.
    """

    name: str
    names: tuple[str, ...]
    verbs: tuple[str, ...]
    sound: Sound
    audioset: tuple[str, ...]
    pitched: bool = False
    paced: bool = False
    paces: tuple[tuple[str, ...], tuple[str, ...]] = (("slow",), ("fast", "rapid"))
    bare: bool = False


EVENT_CLASSES: dict[str, EventClass] = {
    event.name: event
    for event in (
        EventClass("tone", ("steady tone", "pure tone", "sine tone"), ("sounds", "hums on"), tonal.tone,
                   ("Sine wave", "Beep, bleep", "Tuning fork", "Dial tone", "Mains hum", "Harmonic"), pitched=True),
        EventClass("chirp", ("sweeping whistle", "frequency sweep", "rising sweep"), ("sweeps upward", "glides up"), tonal.chirp,
                   ("Chirp tone", "Sine wave", "Whistle", "Whistling", "Theremin", "Zing", "Sound effect"), pitched=True, paced=True),
        EventClass("siren", ("siren", "emergency siren"), ("wails", "blares"), tonal.siren,
                   ("Siren", "Civil defense siren", "Police car (siren)", "Ambulance (siren)", "Fire engine, fire truck (siren)",
                    "Emergency vehicle"),
                   pitched=True, paced=True),
        EventClass("bell", ("bell", "church bell", "tower bell"), ("rings", "tolls"), struck.bell,
                   ("Bell", "Church bell", "Tubular bells", "Chime", "Ding", "Change ringing (campanology)", "Gong", "Glockenspiel", "Singing bowl",
                    "Wind chime", "Jingle bell", "Bicycle bell"), pitched=True, paced=True),
        EventClass("knock", ("knock", "door knock", "wooden knock"), ("thuds on a door", "raps on wood"), struck.knock,
                   ("Knock", "Tap", "Door", "Thump, thud", "Wood", "Thunk"), paced=True),
        EventClass("click", ("click", "key click", "switch click"), ("snaps", "sounds"), struck.click,
                   ("Clicking", "Computer keyboard", "Typing", "Typewriter", "Tick", "Tap", "Finger snapping", "Clickety-clack", "Mouse"),
                    paced=True),
        EventClass("clock", ("clock", "ticking clock", "wall clock"), ("ticks", "goes tick-tock"), struck.clock,
                   ("Clock", "Tick-tock", "Tick", "Mechanisms", "Ratchet, pawl"), paced=True),
        EventClass("footsteps", ("footsteps", "steps on a hard floor"), ("pass by", "sound on stone"), struck.footsteps,
                   ("Walk, footsteps", "Run", "Shuffle", "Clip-clop", "Patter"), paced=True, bare=True),
        EventClass("rain", ("rain", "rainfall", "falling rain"), ("patters down", "comes down"), nature.rain,
                   ("Rain", "Raindrop", "Rain on surface", "Stream", "Water", "Waterfall"), paced=True,
                   paces=(("light", "sparse"), ("heavy", "dense")), bare=True),
        EventClass("wind", ("wind", "gusty wind"), ("howls", "blows"), nature.wind,
                   ("Wind", "Wind noise (microphone)", "Howl", "Rustling leaves"), pitched=True, bare=True),
        EventClass("waves", ("ocean waves", "waves", "sea waves"), ("roll in", "break on the shore"), nature.waves,
                   ("Ocean", "Waves, surf", "Water"), bare=True),
        EventClass("engine", ("engine", "motor", "car engine"), ("idles", "runs"), machines.engine,
                   ("Engine", "Idling", "Medium engine (mid frequency)", "Light engine (high frequency)", "Heavy engine (low frequency)", "Vehicle",
                    "Motorcycle", "Truck", "Car", "Motor vehicle (road)", "Motorboat, speedboat", "Boat, Water vehicle", "Lawn mower"), pitched=True),
        EventClass("drill", ("electric drill", "power drill", "drill"), ("whirs", "drills"), machines.drill,
                   ("Drill", "Power tool", "Tools", "Dental drill, dentist's drill", "Electric shaver, electric razor", "Blender", "Sawing",
                    "Chainsaw"),
                   pitched=True),
        EventClass("bird", ("bird", "songbird", "small bird"), ("chirps", "sings", "tweets"), nature.bird,
                   ("Bird", "Bird vocalization, bird call, bird song", "Chirp, tweet"), pitched=True, paced=True),
        EventClass("cricket", ("cricket", "chirping cricket", "field cricket"), ("stridulates", "chirrs"), nature.cricket,
                   ("Cricket", "Insect"), paced=True),
        EventClass("dog", ("dog", "barking dog"), ("barks", "woofs"), nature.dog,
                   ("Dog", "Bark", "Yip", "Bow-wow", "Domestic animals, pets", "Animal", "Canidae, dogs, wolves"), pitched=True, paced=True),
        EventClass("phone", ("telephone", "phone", "telephone bell"), ("rings", "is ringing"), tonal.phone,
                   ("Telephone", "Telephone bell ringing", "Ringtone", "Alarm clock"), pitched=True),
        EventClass("alarm", ("alarm", "smoke alarm", "beeping alarm"), ("beeps", "goes off"), tonal.alarm,
                   ("Alarm", "Alarm clock", "Smoke detector, smoke alarm", "Fire alarm", "Beep, bleep", "Buzzer", "Car alarm", "Reversing beeps"),
                   pitched=True, paced=True),
        EventClass("drum", ("drum", "hand drum", "tom-tom"), ("beats", "is played"), struck.drum,
                   ("Drum", "Bass drum", "Drum kit", "Percussion", "Tabla", "Snare drum", "Timpani", "Drum machine", "Drum roll"), pitched=True,
                    paced=True),
        EventClass("drops", ("water drops", "drops of water", "drips of water"), ("drip", "fall into a basin"), nature.drops,
                   ("Drip", "Water", "Raindrop", "Plop", "Liquid", "Water tap, faucet"), pitched=True, paced=True, bare=True),
        EventClass("whoosh", ("whoosh", "swoosh", "swish of air"), ("rushes past", "sweeps by"), machines.whoosh,
                   ("Whoosh, swoosh, swish", "Wind", "Car passing by", "Spray", "Steam", "Hiss"), paced=True),
        EventClass("laser", ("laser gun", "ray gun", "sci-fi blaster"), ("fires", "zaps"), tonal.laser,
                   ("Sound effect", "Zing", "Synthesizer", "Video game music", "Pulse", "Boing", "Electronic tuner"), pitched=True, paced=True),
        EventClass("applause", ("applause", "hand clapping", "audience applause"), ("erupts", "goes on"), machines.applause,
                   ("Applause", "Clapping", "Crowd", "Cheering", "Hands"), paced=True, paces=(("sparse", "scattered"), ("dense", "thick")),
                    bare=True),
        EventClass("crackle", ("crackling fire", "campfire", "log fire"), ("crackles", "pops"), nature.crackle,
                   ("Crackle", "Fire", "Crumpling, crinkling", "Frying (food)", "Sizzle", "Crack"), paced=True),
        EventClass("horn", ("car horn", "horn", "truck horn"), ("honks", "toots"), tonal.horn,
                   ("Vehicle horn, car horn, honking", "Toot", "Air horn, truck horn", "Train horn", "Foghorn"), pitched=True),
        EventClass("guitar", ("guitar", "plucked string", "acoustic guitar"), ("is plucked", "is strummed"), tonal.guitar,
                   ("Guitar", "Plucked string instrument", "Acoustic guitar", "Strum", "Steel guitar, slide guitar", "Banjo", "Mandolin",
                    "Ukulele", "Harp",
                    "Sitar", "Musical instrument"), pitched=True, paced=True),
    )
}  # fmt: skip
