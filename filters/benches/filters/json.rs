//! What the values of a request record cost to write.

use std::hint::black_box;

use weir_filters::json::{put_bytes_lossy, put_hex128, put_ms, put_str, put_time_ms, put_u64};

use crate::runner::{Case, Work};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, work: Work, put: fn(&mut Vec<u8>, &str), text: String| {
        Case::new(format!("json/{name}"), work, move || {
            let text = text.clone();
            let mut out = Vec::with_capacity(2 * text.len() + 64);
            move || {
                out.clear();
                put(&mut out, black_box(&text));
                black_box(&mut out);
            }
        })
    };
    let ascii = |length: usize| "OpenAI/Python 1.99.1 (Linux; x64) ".chars().cycle().take(length).collect::<String>();
    // A newline every 60 bytes; and a body, which is quotes above all.
    let prose = "A weir is a low dam across a river: it lets \"water\" over.\n".repeat(1_000);
    let body = r#"{"role":"user","content":"A weir is a low dam."},"#.repeat(1_000);
    let mut cases: Vec<Case> = [10, 36, 100, 300]
        .map(|length| case(&format!("str/{length}"), Work::Calls(1), put_str, ascii(length)))
        .into_iter()
        .collect();
    let lossy = |out: &mut Vec<u8>, text: &str| put_bytes_lossy(out, text.as_bytes());
    cases.push(case("lossy/100", Work::Calls(1), lossy, ascii(100)));
    cases.push(case("str/prose", Work::Bytes(prose.len()), put_str, prose));
    cases.push(case("str/body", Work::Bytes(body.len()), put_str, body));
    cases.push(case("u64", Work::Calls(1), |out, _| put_u64(out, black_box(12_345)), String::new()));
    cases.push(case("ms", Work::Calls(1), |out, _| put_ms(out, black_box(12_345_678)), String::new()));
    let time = |out: &mut Vec<u8>, _: &str| put_time_ms(out, black_box(1_796_066_404_123));
    cases.push(case("time", Work::Calls(1), time, String::new()));
    let id = |out: &mut Vec<u8>, _: &str| put_hex128(out, black_box(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210));
    cases.push(case("hex128", Work::Calls(1), id, String::new()));
    cases
}
