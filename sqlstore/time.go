package sqlstore

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// timeLayout is how times are written as text. MySQL gets text because its driver would write and
// read times in the zone that the DSN names. SQLite gets text because it has no type for times.
// PostgreSQL's drivers agree on what an instant is.
func (d Dialect) timeLayout() string {
	switch d {
	case MySQL:
		return "2006-01-02 15:04:05.000000"
	case SQLite:
		return "2006-01-02T15:04:05.000000Z"
	}
	return ""
}

// The first and the last time that is neither the zero time nor outside the years 1 to 9999.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// timeArg returns t as an argument of a statement, NULL for the zero time.
func (d Dialect) timeArg(t time.Time) (any, error) {
	t = t.UTC().Truncate(time.Microsecond)
	if t.IsZero() {
		return nil, nil
	}
	if t.Year() < 1 || t.Year() > 9999 {
		return nil, fmt.Errorf("time %v: must be in the years 1 to 9999", t)
	}
	if d == PostgreSQL {
		return t, nil
	}
	return t.Format(d.timeLayout()), nil
}

// instantArg returns t as an argument that is never NULL.
func (d Dialect) instantArg(t time.Time) (any, error) {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return d.timeArg(t)
}

// A timeColumn scans what timeArg wrote, and what else the database's own functions write if it can
// mean one instant only.
type timeColumn struct {
	dialect Dialect
	dest    *time.Time
}

// Scan implements [database/sql.Scanner].
func (c timeColumn) Scan(value any) error {
	if value == nil {
		*c.dest = time.Time{}
		return nil
	}
	t, err := c.dialect.parseTime(value)
	if err != nil {
		return err
	}
	t = t.UTC().Round(time.Microsecond)
	// The zero time means "not set", and the others could not be written again.
	if t.Before(firstTime) || t.After(lastTime) {
		return fmt.Errorf("a time outside the years 1 to 9999: %v", value)
	}
	*c.dest = t
	return nil
}

func (d Dialect) parseTime(value any) (time.Time, error) {
	switch v := value.(type) {
	case time.Time:
		if d == MySQL {
			return time.Time{}, errors.New("the driver returned a time where the statement asks " +
				"for text")
		}
		return v, nil // of SQLite's drivers, some make a time of any text that looks like one
	case string:
		return d.parseTimeText(v)
	case []byte:
		return d.parseTimeText(string(v))
	case int64:
		if d == SQLite {
			return parseSQLiteNumber(float64(v))
		}
	case float64:
		if d == SQLite {
			return parseSQLiteNumber(v)
		}
	}
	return time.Time{}, fmt.Errorf("a time came as %T", value)
}

func (d Dialect) parseTimeText(text string) (time.Time, error) {
	switch d {
	case PostgreSQL:
		switch text {
		case "infinity":
			return lastTime, nil
		case "-infinity":
			return firstTime, nil
		}
		return time.Time{}, fmt.Errorf("a time came as text: %q", text)
	case SQLite:
		return parseSQLiteTime(text)
	}
	t, err := time.Parse(d.timeLayout(), text)
	if err != nil {
		return time.Time{}, fmt.Errorf("a time in an unknown form: %w", err)
	}
	return t, nil
}

// sqliteLayouts are the forms of SQLite's functions that say a time of day. One without an offset
// is in UTC. A fraction of a second may follow the seconds.
var sqliteLayouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05",
	"2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04",
}

// parseSQLiteTime reads what timeArg, datetime, strftime, CURRENT_TIMESTAMP, unixepoch and
// julianday write. SQLite makes text of the numbers, because the columns are TEXT. A date alone is
// refused, because it does not say when on that day.
func parseSQLiteTime(text string) (time.Time, error) {
	for _, layout := range sqliteLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return parseSQLiteNumber(n)
	}
	return time.Time{}, fmt.Errorf("a time in an unknown form: %q", text)
}

// The Julian days of the years 1 to 9999, and of 1970.
const (
	firstJulianDay, lastJulianDay = 1721425.5, 5373484.5
	unixJulianDay                 = 2440587.5
)

// parseSQLiteNumber goes by the rule of SQLite's modifier "auto": a number in the range of Julian
// days is one, and a greater one counts seconds since 1970. Other numbers mean nothing.
func parseSQLiteNumber(n float64) (time.Time, error) {
	switch {
	case n >= firstJulianDay && n < lastJulianDay:
		n = (n - unixJulianDay) * 24 * 60 * 60
	case n >= lastJulianDay && n <= float64(lastTime.Unix()):
	default:
		return time.Time{}, fmt.Errorf("a time as a number that is neither a Julian day nor in "+
			"seconds since 1970: %v", n)
	}
	seconds, fraction := math.Modf(n)
	return time.Unix(int64(seconds), int64(fraction*1e9)), nil
}
