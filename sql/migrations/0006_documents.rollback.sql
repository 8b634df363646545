DROP VIEW lesson_documents;
DROP VIEW prospect_documents;
DROP VIEW outcome_documents;
DROP VIEW content_documents;
