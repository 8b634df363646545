DROP INDEX prospects_by_name_written_by;
DROP TRIGGER note_who_writes_the_name ON prospects;
DROP FUNCTION note_who_writes_the_name;
ALTER TABLE prospects DROP COLUMN name_written_by;
