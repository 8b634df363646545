DROP TABLE lessons;
DROP TABLE prospects;
