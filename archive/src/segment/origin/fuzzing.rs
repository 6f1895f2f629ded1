//! What a thinned segment says of its original, under fuzzing.

use super::{Keep, Origin};
use crate::codec::{Decoder, Encoder};
use crate::fuzzing::Input;
use crate::id::Sha256;
use crate::segment::footer::FooterRows;
use crate::segment::fuzzing::some_header;
use crate::segment::{Footer, SegmentHeader};
use crate::time::WallTime;

/// An origin that is taken says the same when it is written again, and stands in a footer as it is.
pub fn origin(data: &[u8]) {
    let mut input = Input(data);
    let wall_end = WallTime::from_micros(input.i64());
    let mut d = Decoder(input.rest());
    let all = d.0.len();
    let Ok(origin) = Origin::decode(&mut d) else {
        return;
    };
    let read = all - d.0.len();
    assert!(!origin.fragments.is_empty() && origin.fragments.len() <= read / 32);
    assert_eq!(
        origin.head(),
        origin.fragments.last().map(|f| f.leaf).unwrap_or_default()
    );
    assert!(!matches!(origin.keep, Keep::EveryNthGop(0 | 1)));
    for f in &origin.fragments {
        assert!(f.kept <= f.pictures && f.range.from() <= f.range.to());
    }
    let mut e = Encoder::default();
    origin.encode(&mut e);
    assert!(e.0.len() <= read, "an origin grows when it is written again");
    assert_eq!(Origin::decode(&mut Decoder(&e.0)).as_ref(), Ok(&origin));
    let header = SegmentHeader {
        generation: 1,
        ..some_header(Sha256::default())
    };
    let head = Sha256::of(&e.0);
    let boxes = FooterRows::default().boxed(&header, head, wall_end, Some(&origin));
    let (footer, tables) = Footer::parse(&boxes.footer).expect("what was written reads back");
    assert!(tables.are(&boxes.samples));
    assert_eq!(footer.link(), origin.head());
    assert_eq!(
        (footer.header, footer.wall_end, footer.head, footer.origin),
        (header, wall_end, head, Some(origin))
    );
}
