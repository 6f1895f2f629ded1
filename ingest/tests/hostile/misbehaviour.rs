//! What a hostile camera does.

/// One way to misbehave. A camera is honest in all that its misbehaviour does not name.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Misbehaviour {
    /// None: the control of this server itself.
    Honest,
    // What it answers.
    NeverAnswers,
    ClosesAtOnce,
    EndlessHeaders,
    EndlessHeaderLine,
    TricklesHeaders,
    EndlessDescription,
    LengthHuge,
    LengthNegative,
    LengthShort,
    LengthLong,
    Tracks(usize),
    RefusesCredentials,
    OneTimeNonces,
    /// Lets the first session in, ends it soon, and knows no credentials from then on.
    ChangesCredentials,
    /// 453 to all but one session; somebody else's holds the place at first.
    OneSession,
    RedirectsToItself,
    RedirectsToMetadata,
    RedirectsOnce,
    SessionTimeout(u32),
    IgnoresKeepalives,
    /// Ends its sessions soon, and closes the connection instead of letting go of them.
    KeepsSessions,
    UdpSourceElsewhere,
    /// Describes its pictures as H.265 from the second session on, and ends the first soon.
    BecomesH265,
    // What it sends.
    StallsMidFrame,
    HalfCloses,
    TearsDown,
    TearsDownAndStops,
    LengthOfFrameWrong,
    GarbageBetweenFrames,
    UnknownChannels,
    FloodsUnknownChannel,
    /// The same after the beginning of a picture.
    FloodsInPicture,
    FloodsReports,
    TimestampsJump,
    TimestampsGoBack,
    TimestampsStop,
    /// Media time passes at a third of its speed.
    TimestampsCrawl,
    ChangesSource,
    ParametersEverySecond,
    ParametersHuge,
    PictureTooLarge,
    NoKeyframe,
    OneKeyframe,
    /// A picture that never ends.
    EndlessPicture,
    /// Whole pictures of so many MiB.
    LargePictures(usize),
    EndlessNals,
    EmptyPacket,
    EmptyAggregate,
    TruncatedFragment,
    FragmentWithoutEnd,
    PaddingWrong,
    ExtensionWrong,
    SourcesWrong,
    SequenceJumps,
    SequenceGoesBack,
    Goodbye,
    GarbageReports,
    // How datagrams travel.
    Loses,
    Reorders,
    Duplicates,
    SendsNothing,
    GarbageDatagrams,
}
