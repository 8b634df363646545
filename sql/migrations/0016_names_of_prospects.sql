-- depends: 0010_retention
-- Which transaction wrote a prospect's name: a process that lives long reads the names that are new to it, and misses
-- none that was committed late. Also rows from an archive get the transaction that brings them back.
ALTER TABLE prospects ADD COLUMN name_written_by xid8 NOT NULL DEFAULT pg_current_xact_id();

CREATE FUNCTION note_who_writes_the_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.name_written_by := pg_current_xact_id();
    RETURN NEW;
END
$$;

CREATE TRIGGER note_who_writes_the_name BEFORE INSERT OR UPDATE OF name ON prospects
    FOR EACH ROW EXECUTE FUNCTION note_who_writes_the_name();

CREATE INDEX prospects_by_name_written_by ON prospects (name_written_by);
