//! Deletion certificates over the API: found by camera and time, page by page, each as it was signed.

mod common;

use archive::Tier;
use archive::site_key::SiteKey;
use common::{EPOCH, Site, epoch};
use indexer::{Cause, SegmentRow, Witness, parse_certificate};

/// Deletes a segment, as retention does.
fn delete(site: &Site, row: &SegmentRow) {
    let cause = Cause {
        reason: "age".into(),
        rule: "hot = \"30d\"".into(),
    };
    let begun = site
        .index
        .begin_deletion(&[(row.clone(), cause)], row.wall_end)
        .expect("begin");
    let witness = Witness {
        key: &SiteKey::from_secret([3; 32]),
        places: &[],
        archive_time: row.wall_end,
        wall: row.wall_end,
        actor: "retention",
    };
    let gone: Vec<_> = begun.into_iter().map(|row| (row, vec![Tier::Hot])).collect();
    site.index.certify(&gone, &witness).expect("certify");
    let mut batch = indexer::Batch::default();
    batch.delete(&gone[0].0);
    site.index.commit(batch).expect("commit");
}

#[test]
fn certificates_of_a_camera_come_page_by_page_as_they_were_signed() {
    let site = Site::new();
    let mut at = epoch();
    for _ in 0..5 {
        for camera in ["lobby/main", "garden/main"] {
            let row = site.record(camera, at, 1);
            delete(&site, &row);
        }
        at = at.plus_micros(60_000_000);
    }
    let service = site.serve(|_| ());
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/api/v1/certificates?camera=lobby&limit=2&after={after}");
        let text = service.get(&path).text();
        let page: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let list = text.strip_prefix("{\"certificates\":[").expect("list");
        let list = list.rsplit_once("],\"next\":").expect("next").0;
        for line in list
            .split_inclusive("\"}")
            .filter(|line| line.contains("certificate"))
        {
            let (certificate, _) = parse_certificate(line.trim_start_matches(',')).expect("signed");
            assert_eq!(certificate.camera.as_str(), "lobby");
            seen.push(certificate.number);
        }
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, [1, 3, 5, 7, 9]);
    let some = service.json(&format!(
        "/api/v1/certificates?camera=lobby&from={EPOCH}&to={}",
        common::after(61.0)
    ));
    assert_eq!(some["certificates"].as_array().map(Vec::len), Some(2));
    for (query, code) in [
        ("", "invalid_parameter"),
        ("?camera=nowhere", "not_found"),
        ("?camera=lobby&after=x", "invalid_parameter"),
        ("?camera=lobby&from=5&to=5", "invalid_range"),
    ] {
        assert_eq!(
            service.get(&format!("/api/v1/certificates{query}")).code(),
            code,
            "{query}"
        );
    }
}
