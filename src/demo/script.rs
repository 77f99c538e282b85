//! What the correspondents say and do. Plain data: who speaks it, and when, is the correspondent's business.

/// Somebody who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    /// The person's id, and the chat's.
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    greeting: &'static str,
}

/// The one to whom the lines on the screen write.
pub(super) const ADA: Contact = Contact {
    id: "ada",
    name: "Ada",
    greeting: "Hi, I am Ada. Write me anything: I answer over a signed webhook. \
               The words edit, react, delete, picture, busy and refuse do what they say.",
};

const GRACE: Contact = Contact {
    id: "grace",
    name: "Grace",
    greeting: "Hello from Grace! I write now and then, whether you answer or not.",
};

/// Everybody, in the order in which they greet.
pub(super) const CONTACTS: [Contact; 2] = [GRACE, ADA];

/// One thing that a correspondent does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Pause(u64),
    Typing(u64),
    Say(String),
    /// Changes what was said last.
    Edit(String),
    /// Takes back what was said last.
    Delete,
    Picture {
        url: &'static str,
        text: &'static str,
    },
    /// Reacts to the person's last message.
    React(&'static str),
    /// Takes that reaction back.
    Unreact(&'static str),
}

/// How the correspondent's server treats a message, before anybody reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    Take,
    /// Answers 503 with `Retry-After` so many times first.
    Busy {
        times: u32,
    },
    /// Answers 422 with a reason.
    Refuse,
}

/// Decides by a word in the message, so that every way a send can end can be tried out.
pub(super) fn reception(text: &str) -> Reception {
    match () {
        () if has_word(text, &["refuse", "fail"]) => Reception::Refuse,
        () if has_word(text, &["busy", "slow"]) => Reception::Busy { times: 2 },
        () => Reception::Take,
    }
}

/// The first words of a contact.
pub(super) fn greeting(contact: Contact) -> Vec<Step> {
    vec![Step::Say(contact.greeting.to_owned())]
}

/// What is done about a message of the person. `turn` counts the messages of this run.
pub(super) fn answer(text: &str, turn: usize) -> Vec<Step> {
    let say = |text: &str| Step::Say(text.to_owned());
    let mut steps = vec![Step::Typing(900)];
    if has_word(text, &["edit", "edited"]) {
        steps.extend([say("I allways spell this right."), Step::Pause(1500)]);
        steps.push(Step::Edit("I always spell this right. (edited)".to_owned()));
    } else if has_word(text, &["react", "reaction"]) {
        steps.extend([
            Step::React("🎉"),
            Step::Pause(2500),
            Step::Unreact("🎉"),
            Step::React("👍"),
        ]);
        steps.push(say("One reaction came and went, the other stays."));
    } else if has_word(text, &["delete", "deleted"]) {
        steps.extend([say("You did not see this."), Step::Pause(1500), Step::Delete]);
    } else if has_word(text, &["picture", "image", "photo"]) {
        let url = "https://www.rfc-editor.org/rfc/rfc-logo.png";
        steps.push(Step::Picture {
            url,
            text: "A picture is a message with a mediaUrl.",
        });
    } else if has_word(text, &["busy", "slow"]) {
        steps.push(say(
            "I was busy twice, and the hub came back by itself. It arrived once.",
        ));
    } else if has_word(text, &["hello", "hi", "hey", "hallo"]) {
        steps.extend([Step::React("👋"), say("Hello! Nice to hear from you.")]);
    } else if has_word(text, &["thanks", "thank", "danke"]) {
        steps.extend([Step::React("❤️"), say("You are welcome.")]);
    } else if text.trim_end().ends_with('?') {
        steps.push(say(pick(&ANSWERS, turn)));
    } else {
        if turn % 3 == 2 {
            steps.push(Step::React("👍"));
        }
        steps.push(say(pick(&REMARKS, turn)));
    }
    steps
}

/// What a contact does without being asked. `turn` counts these times.
pub(super) fn chatter(turn: usize) -> Vec<Step> {
    let text = pick(&CHATTER, turn).to_owned();
    let mut steps = vec![Step::Typing(1200), Step::Say(text.clone())];
    match turn % 4 {
        1 => steps.extend([Step::Pause(2000), Step::Edit(format!("{text} (I mean it.)"))]),
        3 => steps.extend([Step::Pause(1000), Step::React("😀")]),
        _ => {}
    }
    steps
}

const ANSWERS: [&str; 4] = [
    "Good question. I am a script of a hundred lines, so: probably.",
    "Yes.",
    "I asked the journal: it is committed, so it must be true.",
    "Try it out and tell me.",
];
const REMARKS: [&str; 5] = [
    "Got it. Your message was signed, and I checked.",
    "Interesting, tell me more.",
    "Noted. It even survived the outbox.",
    "I would say the same.",
    "Understood. Shall we try the word edit next?",
];
const CHATTER: [&str; 6] = [
    "Just checking that the stream still has no gaps.",
    "Did you know that you can stop me with SIGKILL and lose nothing?",
    "Coffee?",
    "I will be late today.",
    "The weather on loopback is fine.",
    "Look at GET /api/events: every step has its number.",
];

fn pick<'a>(lines: &[&'a str], turn: usize) -> &'a str {
    lines.get(turn % lines.len().max(1)).copied().unwrap_or_default()
}

fn has_word(text: &str, words: &[&str]) -> bool {
    text.split(|character: char| !character.is_alphanumeric())
        .any(|word| words.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_what_happens() {
        assert_eq!(reception("please REFUSE this"), Reception::Refuse);
        assert_eq!(reception("are you busy?"), Reception::Busy { times: 2 });
        assert_eq!(reception("business as usual"), Reception::Take);
        assert!(answer("edit", 0).iter().any(|step| matches!(step, Step::Edit(_))));
        assert!(answer("Delete!", 0).contains(&Step::Delete));
        assert!(answer("hi", 0).contains(&Step::React("👋")));
    }

    #[test]
    fn every_answer_says_or_shows_something() {
        for turn in 0..10 {
            for text in [
                "",
                "hello",
                "why?",
                "edit",
                "react",
                "delete",
                "picture",
                "\u{0}\u{1f600}",
            ] {
                let shows = |step: &Step| matches!(step, Step::Say(_) | Step::Picture { .. });
                assert!(answer(text, turn).iter().any(shows), "{text}");
            }
            assert!(chatter(turn).iter().any(|step| matches!(step, Step::Say(_))));
        }
    }
}
