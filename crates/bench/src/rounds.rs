//! Variants take turns.

use anyhow::Result;

/// Measures each of so many cases in each round; the case that begins is another one in each. Round 0 warms up and does
/// not count.
///
/// # Errors
/// The first of `measure`.
pub(crate) async fn rounds<R>(
    rounds: usize,
    cases: usize,
    mut measure: impl AsyncFnMut(usize) -> Result<R>,
) -> Result<Vec<Vec<R>>> {
    let mut measured: Vec<Vec<R>> = (0..cases).map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..=rounds {
        for turn in 0..cases {
            let case = (turn + round) % cases;
            let figures = measure(case).await?;
            if round > 0 {
                measured[case].push(figures);
            }
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_round_begins_with_another_case() {
        let mut order = Vec::new();
        let measured = rounds(2, 3, async |case| {
            order.push(case);
            Ok(case)
        });
        assert_eq!(measured.await.unwrap(), [[0, 0], [1, 1], [2, 2]]);
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
    }
}
