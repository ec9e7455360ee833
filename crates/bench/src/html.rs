//! All reports on one page, which needs nothing else: no script, no fonts, no network.

use std::fmt::Write as _;

use anyhow::Result;

use crate::all::Everything;
use crate::plot::svg;
use crate::report::{Report, Table};

const STYLE: &str = "\
body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 86em; padding: 0 1em; color: #222; background: #fff }
h1, h2, h3 { line-height: 1.2 } h2 { border-top: 1px solid #ccc; padding-top: 1em; margin-top: 2em }
table { border-collapse: collapse; font-size: 13px; margin: .5em 0 }
th, td { border: 1px solid #ddd; padding: .2em .5em; text-align: right } th { background: #f4f4f4 }
td:first-child, th:first-child { text-align: left } .wide { overflow-x: auto }
code { background: #f4f4f4 } .plots { display: flex; flex-wrap: wrap; gap: 1em } .small { color: #555; font-size: 13px }
.failed { color: #a00 } svg { max-width: 100%; height: auto }";

/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn page(all: &Everything) -> Result<String> {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>natstream: speed and memory</title>\
         <style>{STYLE}</style></head><body>\n<h1>natstream: speed and memory</h1>\n"
    );
    if let Some(report) = all.reports.first() {
        write!(page, "<p>{}</p>", paragraphs(&report.origin.about()))?;
    }
    write!(
        page,
        "<p>Variants take turns, and another one begins in each round. The first round warms up and does not count; tables \
         show the median (minimum–maximum). All ran on 127.0.0.1 in {:.0} s.{}</p>\n<p>",
        all.seconds,
        if all.quick {
            " It was a quick run, whose figures mean little."
        } else {
            ""
        },
    )?;
    for report in &all.reports {
        write!(page, "<a href=\"#{0}\">{0}</a> ", escape(&report.module))?;
    }
    page += "</p>\n";
    for failure in &all.failures {
        let (module, error) = (escape(&failure.module), escape(&failure.error));
        writeln!(page, "<p class=\"failed\">{module} failed: {error}</p>")?;
    }
    for report in &all.reports {
        section(&mut page, report)?;
    }
    page += "</body></html>\n";
    Ok(page)
}

fn section(page: &mut String, report: &Report) -> Result<()> {
    writeln!(
        page,
        "<h2 id=\"{0}\">{0}</h2>\n<p>{1}</p>",
        escape(&report.module),
        escape(&report.about)
    )?;
    writeln!(
        page,
        "<p class=\"small\"><code>{}</code><br>",
        escape(&report.origin.command)
    )?;
    writeln!(page, "{}</p>\n<ul class=\"small\">", escape(&report.settings_text()))?;
    for peer in &report.peers {
        writeln!(page, "<li>{}</li>", escape(peer))?;
    }
    page.push_str("</ul>\n<div class=\"plots\">\n");
    for plot in &report.plots {
        if let Some(svg) = svg(plot)? {
            writeln!(page, "<div>{svg}</div>")?;
        }
    }
    page.push_str("</div>\n");
    for table in &report.tables {
        self::table(page, table)?;
    }
    Ok(())
}

fn table(page: &mut String, table: &Table) -> Result<()> {
    writeln!(
        page,
        "<h3>{}</h3>\n<div class=\"wide\"><table><tr>",
        escape(&table.title)
    )?;
    for column in &table.columns {
        write!(page, "<th>{}</th>", escape(&column.name))?;
    }
    page.push_str("</tr>\n");
    for row in &table.rows {
        page.push_str("<tr>");
        for (cell, column) in row.iter().zip(&table.columns) {
            write!(page, "<td>{}</td>", escape(&cell.show(column.digits)))?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
    for note in &table.notes {
        writeln!(page, "<p class=\"small\">{}</p>", escape(note))?;
    }
    Ok(())
}

fn paragraphs(text: &str) -> String {
    escape(text).replace('\n', "<br>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
