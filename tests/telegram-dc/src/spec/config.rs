//! Settings of the DC.

use serde::{Deserialize, Serialize};

/// How the DC answers a `random_id` it has seen before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatAnswer {
    /// The first result again.
    #[default]
    FirstResult,
    /// `500 RANDOM_ID_DUPLICATE`.
    Duplicate,
}

/// Whether a difference of an account names the channels that changed (`updateChannelTooLong`), which is
/// how a client that was away learns of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelHints {
    /// Not at all.
    None,
    /// The channel alone.
    #[default]
    WithoutPts,
    /// With the pts the channel has now (not the one to start from).
    WithPts,
}

/// Settings; all have working defaults, `seed` and `keys` are the usual ones to set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DcConfig {
    /// Seed of the auth key chain.
    pub seed: String,
    /// How many keys of the chain are known (numbers 0 to `keys` - 1).
    pub keys: u32,
    /// DC ids and ports on 127.0.0.1 (0 = a free one). The first is where people live by default.
    pub dcs: Vec<(i32, u16)>,
    /// Control port on 127.0.0.1 (0 = a free one); `None` = in process only.
    pub control: Option<u16>,
    /// Largest frame taken from a client.
    pub frame_cap: usize,
    /// Entries kept in the log of received calls; the oldest go first.
    pub log_cap: usize,
    /// Bytes kept of all files together.
    pub files_cap: usize,
    /// Messages waiting for one slow client before its connection is closed.
    pub queue_cap: usize,
    /// Events kept per account and channel; who is behind further gets `differenceTooLong`.
    pub events_cap: usize,
    /// Most events in one difference; more makes a `differenceSlice`.
    pub slice: usize,
    /// More events than this make a `differenceTooLong`.
    pub too_long: usize,
    /// More events than this make a `channelDifferenceTooLong`.
    pub channel_too_long: usize,
    /// Answers above this many bytes are gzipped if that helps; 0 = never.
    pub gzip_above: usize,
    /// Refuse a wrong salt with `bad_server_salt`, as Telegram does.
    pub check_salts: bool,
    /// Refuse a wrong access hash.
    pub check_access_hashes: bool,
    /// Put the DC addresses into the answer of `help.getConfig`.
    pub send_dc_options: bool,
    /// Answer a plain text to a person with `updateShortSentMessage`, as Telegram does.
    pub short_sent: bool,
    /// Push a plain text from a person as `updateShortMessage` (no user data comes with it).
    pub short_pushes: bool,
    /// Number pushes with `seq`.
    pub seq_pushes: bool,
    /// What a repeated `random_id` is answered with.
    pub repeat: RepeatAnswer,
    /// What a difference says about channels.
    pub channel_hints: ChannelHints,
    /// Two connections at once with one key kill the key with `406 AUTH_KEY_DUPLICATED`.
    pub detect_duplicates: bool,
    /// Seconds a login code stays valid.
    pub code_seconds: i32,
    /// Seconds a QR login token stays valid.
    pub token_seconds: i32,
}

impl Default for DcConfig {
    fn default() -> Self {
        Self {
            seed: "telegram-dc".into(),
            keys: 64,
            dcs: vec![(2, 0), (4, 0)],
            control: None,
            frame_cap: 2 << 20,
            log_cap: 100_000,
            files_cap: 256 << 20,
            queue_cap: 8192,
            events_cap: 20_000,
            slice: 100,
            too_long: 10_000,
            channel_too_long: 1_000,
            gzip_above: 1024,
            check_salts: true,
            check_access_hashes: true,
            send_dc_options: false,
            short_sent: true,
            short_pushes: false,
            seq_pushes: false,
            repeat: RepeatAnswer::FirstResult,
            channel_hints: ChannelHints::WithoutPts,
            detect_duplicates: false,
            code_seconds: 300,
            token_seconds: 30,
        }
    }
}

/// Settings that may change while the DC runs; `None` leaves a setting as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// See [`DcConfig::slice`].
    pub slice: Option<usize>,
    /// See [`DcConfig::too_long`].
    pub too_long: Option<usize>,
    /// See [`DcConfig::channel_too_long`].
    pub channel_too_long: Option<usize>,
    /// See [`DcConfig::short_sent`].
    pub short_sent: Option<bool>,
    /// See [`DcConfig::short_pushes`].
    pub short_pushes: Option<bool>,
    /// See [`DcConfig::seq_pushes`].
    pub seq_pushes: Option<bool>,
    /// See [`DcConfig::repeat`].
    pub repeat: Option<RepeatAnswer>,
    /// See [`DcConfig::channel_hints`].
    pub channel_hints: Option<ChannelHints>,
    /// See [`DcConfig::detect_duplicates`].
    pub detect_duplicates: Option<bool>,
    /// See [`DcConfig::check_access_hashes`].
    pub check_access_hashes: Option<bool>,
}
